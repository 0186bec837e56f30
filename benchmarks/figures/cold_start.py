"""How long a user waits for a new kernel: from POST to the result of `1+1`."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial

from benchmarks import engine, kernelspecs
from benchmarks.bench import Bench, milliseconds_since
from benchmarks.channel import Channel, ZmqChannel
from benchmarks.protocol import execute_request
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import SERVERS, Column, Server

ROUNDS = 9
START_SECONDS = 60.0


def measure(bench: Bench) -> list[Figure]:
    """Start one kernel after the other, each server and the floor in turn."""
    return _measure_local(bench) + _measure_docker(bench)


def _measure_local(bench: Bench) -> list[Figure]:
    figure = Figure(
        "cold start of a local kernel, POST → result of 1+1", "ms", Target(Bound.TIMES_FLOOR, 1.35)
    )
    detail = Figure("the same, floor measured to the result of 1+1", "ms")
    bare = partial(kernelspecs.bare_kernel, kernelspecs.PYTHON, bench.folder)
    with ExitStack() as stack:
        servers = _start_servers(bench, stack, figure, SERVERS)
        for _ in range(bench.rounds(ROUNDS)):
            _start_each(bench, servers, kernelspecs.PYTHON, figure)
            _start_bare(bench, bare, figure, detail)
    return [figure, detail]


def _measure_docker(bench: Bench) -> list[Figure]:
    figure = Figure(
        "cold start in a container, POST → result of 1+1", "ms", Target(Bound.TIMES_FLOOR, 1.35)
    )
    detail = Figure("the same, floor measured to the result of 1+1", "ms")
    with ExitStack() as stack:
        image = ""
        for column in (Column.FLOOR, Column.GATEWAY):
            with bench.noting(column, figure, detail):
                image = engine.kernel_image(bench.kernel_json(kernelspecs.DOCKER))
        if not image:
            return [figure, detail]
        servers = _start_servers(bench, stack, figure, (Column.GATEWAY,))
        for _ in range(bench.rounds(ROUNDS)):
            _start_each(bench, servers, kernelspecs.DOCKER, figure)
            _start_bare(bench, partial(engine.bare_kernel, image), figure, detail)
    return [figure, detail]


def _start_servers(
    bench: Bench, stack: ExitStack, figure: Figure, columns: tuple[Column, ...]
) -> list[Server]:
    servers = []
    for column in columns:
        if column in bench.columns:
            with bench.noting(column, figure):
                servers.append(stack.enter_context(bench.server(column)))
    return servers


def _start_each(bench: Bench, servers: list[Server], name: str, figure: Figure) -> None:
    for server in servers:
        if server.column not in figure.remarks:
            with bench.noting(server.column, figure):
                started = time.perf_counter()
                with server.kernel(name) as kernel_id, server.connect(kernel_id) as channel:
                    wait_for_result(channel)
                    figure.add(server.column, milliseconds_since(started))


def _start_bare(
    bench: Bench,
    bare: Callable[[], AbstractContextManager[dict[str, str | int]]],
    figure: Figure,
    detail: Figure,
) -> None:
    if Column.FLOOR in figure.remarks:
        return
    with bench.noting(Column.FLOOR, figure, detail):
        started = time.perf_counter()
        with bare() as connection:
            channel = ZmqChannel(connection)
            try:
                channel.wait_until_live(START_SECONDS)
                figure.add(Column.FLOOR, milliseconds_since(started))
                wait_for_result(channel)
                detail.add(Column.FLOOR, milliseconds_since(started))
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
