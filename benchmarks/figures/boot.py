"""How long a server takes from its start to its first answer."""

from benchmarks.bench import Bench
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import SERVERS

ROUNDS = 7


def measure(bench: Bench) -> list[Figure]:
    """Start and stop each server in turn."""
    figure = Figure("boot to first 200", "ms", Target(Bound.TIMES_EG, 0.8))
    for _ in range(bench.rounds(ROUNDS)):
        for column in SERVERS:
            if column in bench.columns and column not in figure.remarks:
                with bench.noting(column, figure), bench.server(column) as server:
                    figure.add(column, server.boot_seconds * 1000)
    return [figure]
