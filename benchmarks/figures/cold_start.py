"""How long a user waits for a new kernel: from POST to the result of `1+1`."""

import time
from contextlib import ExitStack

from benchmarks import kernelspecs, places
from benchmarks.bench import Bench, milliseconds_since
from benchmarks.client.channel import Channel
from benchmarks.client.protocol import execute_request
from benchmarks.places import BareKernel, Place
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import Column, Server

ROUNDS = 9
START_SECONDS = 60.0


def measure(bench: Bench) -> list[Figure]:
    """Start one kernel after the other, each server and the floor in turn."""
    local = make_figures(places.LOCAL)
    measure_place(bench, places.local(bench, kernelspecs.PYTHON), local, ROUNDS)
    container = make_figures(places.CONTAINER)
    measure_place(bench, places.containers(bench, container), container, ROUNDS)
    return local + container


def make_figures(label: str, limit: float = 1.1) -> list[Figure]:
    """The second one has the same meaning at both ends; the target refers to the first."""
    return [
        Figure(
            f"cold start, {label}: POST → result of 1+1 (floor: → kernel_info)",
            "ms",
            Target(Bound.TIMES_FLOOR, limit),
        ),
        Figure(f"cold start, {label}: POST → result of 1+1 (floor: likewise)", "ms"),
    ]


def measure_place(bench: Bench, place: Place, figures: list[Figure], rounds: int) -> None:
    """Start one kernel after the other in one place, each server and the floor in turn."""
    with ExitStack() as stack:
        servers = []
        for column in place.kernels:
            with bench.noting(column, *figures):
                servers.append(stack.enter_context(place.serve(column)))
        for _ in range(bench.rounds(rounds)):
            for server in servers:
                if server.column not in figures[0].remarks:
                    with bench.noting(server.column, *figures):
                        time.sleep(place.pause)
                        _start(server, place.kernels[server.column], figures)
            if place.bare and Column.FLOOR in bench.columns:
                with bench.noting(Column.FLOOR, *figures):
                    time.sleep(place.pause)
                    _start_bare(bench, place, place.bare, figures)


def _start(server: Server, name: str, figures: list[Figure]) -> None:
    started = time.perf_counter()
    with server.kernel(name) as kernel_id, server.connect(kernel_id) as channel:
        wait_for_result(channel)
        elapsed = milliseconds_since(started)
        for figure in figures:
            figure.add(server.column, elapsed)


def _start_bare(bench: Bench, place: Place, bare: BareKernel, figures: list[Figure]) -> None:
    to_kernel_info, to_result = figures
    started = time.perf_counter()
    with bare(bench.folder / "bare") as connection:
        channel = place.dial(connection)
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
