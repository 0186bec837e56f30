"""How long a user waits for a restarted kernel: from POST to the result of `1+1`."""

import time
from contextlib import ExitStack

from benchmarks import kernelspecs
from benchmarks.bench import Bench, milliseconds_since
from benchmarks.client.channel import Channel
from benchmarks.figures.cold_start import wait_for_result
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import SERVERS, Column, Server

ROUNDS = 15
PAUSE_SECONDS = 5.0
"""Before each restart, for the user's work: a spare is there after two seconds of quiet."""


def measure(bench: Bench) -> list[Figure]:
    """Restart a kernel of each server again and again: after a pause, and at once."""
    rested = Figure(
        "restart, from a spare: POST → result of 1+1",
        "ms",
        Target(Bound.AT_MOST, 120),
    )
    at_once = Figure("restart right after that, without a spare: POST → result of 1+1", "ms")
    figures = [rested, at_once]
    with ExitStack() as stack:
        kernels: dict[Column, tuple[Server, str, Channel]] = {}
        for column in SERVERS:
            if column in bench.columns:
                with bench.noting(column, *figures):
                    server = stack.enter_context(bench.server(column))
                    kernel_id = stack.enter_context(server.kernel(kernelspecs.PYTHON))
                    channel = stack.enter_context(server.connect(kernel_id))
                    wait_for_result(channel)
                    kernels[column] = server, kernel_id, channel
        for _ in range(bench.rounds(ROUNDS)):
            for column, kernel in kernels.items():
                if column not in rested.remarks:
                    with bench.noting(column, *figures):
                        time.sleep(PAUSE_SECONDS)
                        rested.add(column, _restart(*kernel))
                        at_once.add(column, _restart(*kernel))
    return figures


def _restart(server: Server, kernel_id: str, channel: Channel) -> float:
    started = time.perf_counter()
    server.rest.restart_kernel(kernel_id)
    wait_for_result(channel)
    return milliseconds_since(started)
