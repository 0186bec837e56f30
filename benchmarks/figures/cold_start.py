"""How long a user waits for a new kernel: from POST to the result of `1+1`."""

import time
from contextlib import ExitStack

from benchmarks import kernelspecs, places
from benchmarks.bench import Bench, milliseconds_since
from benchmarks.channel import Channel, ZmqChannel
from benchmarks.places import BareKernel, Place
from benchmarks.protocol import execute_request
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import Column, Server

ROUNDS = 9
START_SECONDS = 60.0


def measure(bench: Bench) -> list[Figure]:
    """Start one kernel after the other, each server and the floor in turn."""
    local = _figures(places.LOCAL)
    _measure_place(bench, places.local(bench, kernelspecs.PYTHON), local)
    container = _figures(places.CONTAINER)
    _measure_place(bench, places.containers(bench, container), container)
    return local + container


def _figures(label: str) -> list[Figure]:
    """The second one has the same meaning at both ends; the target refers to the first."""
    return [
        Figure(
            f"cold start, {label}: POST → result of 1+1 (floor: → kernel_info)",
            "ms",
            Target(Bound.TIMES_FLOOR, 1.35),
        ),
        Figure(f"cold start, {label}: POST → result of 1+1 (floor: likewise)", "ms"),
    ]


def _measure_place(bench: Bench, place: Place, figures: list[Figure]) -> None:
    with ExitStack() as stack:
        servers = []
        for column in place.kernels:
            with bench.noting(column, *figures):
                servers.append(stack.enter_context(bench.server(column)))
        for _ in range(bench.rounds(ROUNDS)):
            for server in servers:
                if server.column not in figures[0].remarks:
                    with bench.noting(server.column, *figures):
                        _start(server, place.kernels[server.column], figures)
            if place.bare and Column.FLOOR in bench.columns:
                with bench.noting(Column.FLOOR, *figures):
                    _start_bare(bench, place.bare, figures)


def _start(server: Server, name: str, figures: list[Figure]) -> None:
    started = time.perf_counter()
    with server.kernel(name) as kernel_id, server.connect(kernel_id) as channel:
        wait_for_result(channel)
        elapsed = milliseconds_since(started)
        for figure in figures:
            figure.add(server.column, elapsed)


def _start_bare(bench: Bench, bare: BareKernel, figures: list[Figure]) -> None:
    to_kernel_info, to_result = figures
    started = time.perf_counter()
    with bare(bench.folder / "bare") as connection:
        channel = ZmqChannel(connection)
        try:
            channel.wait_until_live(START_SECONDS)
            to_kernel_info.add(Column.FLOOR, milliseconds_since(started))
            wait_for_result(channel)
            to_result.add(Column.FLOOR, milliseconds_since(started))
        finally:
            channel.close()


def wait_for_result(channel: Channel) -> None:
    """Run `1+1` and wait until its result is there."""
    request = execute_request("1+1", channel.session)
    deadline = time.monotonic() + START_SECONDS
    channel.send(request)
    message = b""
    while b'"execute_result"' not in message or request.mark not in message:
        message = channel.receive(deadline)
