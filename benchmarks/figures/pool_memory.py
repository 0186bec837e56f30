"""What kernels of a pool have in memory, beside kernels that users have."""

from contextlib import ExitStack

from benchmarks import processes
from benchmarks.bench import Bench
from benchmarks.figures.cold_start import wait_for_result
from benchmarks.figures.warm_start import (
    OURS,
    measure_places,
    serve_pool,
    wait_until_full,
)
from benchmarks.places import Place
from benchmarks.report import Figure
from benchmarks.servers import ServerError
from enterprise_gateway.services.processproxies.contract import POOL_USERNAME

SIZE = 4
MIB = 1024 * 1024


class Parts:
    """The figures of one sort of processes: what is theirs alone, and the rest of their PSS."""

    def __init__(self, what: str, where: str) -> None:
        self.own = Figure(f"memory of {what}, {where}, its own", "MiB")
        self.shared = Figure(f"memory of {what}, {where}, its part of what is shared", "MiB")

    def add(self, pids: list[int]) -> None:
        """Add what these processes of `SIZE` kernels have, by kernel."""
        sizes = [processes.memory_bytes(pid) for pid in pids]
        own = sum(size.private for size in sizes)
        self.own.add(OURS, own / SIZE / MIB)
        self.shared.add(OURS, (sum(size.proportional for size in sizes) - own) / SIZE / MIB)


class Rows:
    """The figures of one place."""

    def __init__(self, where: str) -> None:
        self.waiting = Parts("a kernel that waits in a pool, without its spare", where)
        self.spare = Parts("the spare of a kernel that waits in a pool", where)
        self.running = Parts("a kernel that has run a cell, without its spare", where)

    def all(self) -> list[Figure]:
        """In the order of the table."""
        parts = (self.waiting, self.spare, self.running)
        return [figure for each in parts for figure in (each.own, each.shared)]


def measure(bench: Bench) -> list[Figure]:
    """Look at kernels that wait and at as many that users have, at the same time."""
    return measure_places(bench, Rows, _measure_place)


def _measure_place(place: Place, rows: Rows) -> None:
    name = place.kernels[OURS]
    with serve_pool(place, name, SIZE) as server, ExitStack() as stack:
        wait_until_full(server, SIZE)
        taken = []
        for _ in range(SIZE):
            kernel_id = stack.enter_context(server.kernel(name))
            wait_for_result(stack.enter_context(server.connect(kernel_id)))
            taken.append(kernel_id)
        wait_until_full(server, SIZE)
        running = set(processes.kernel_pids(taken))
        # Those that were taken still have the pool's user in the environment they began with.
        waiting = set(processes.marked_pids([f"KERNEL_USERNAME={POOL_USERNAME}"])) - running
        spares = set(processes.spare_pids([*waiting, *running]))
        # Also other gateways on this machine may have pools.
        if (len(waiting), len(waiting & spares)) != (3 * SIZE, SIZE):
            raise ServerError(
                f"{SIZE} kernels that wait are {3 * SIZE} processes with their agents and spares, "
                f"but there are {len(waiting)}, of them {len(waiting & spares)} spares"
            )
        rows.waiting.add(list(waiting - spares))
        rows.spare.add(list(waiting & spares))
        rows.running.add(list(running - spares))
