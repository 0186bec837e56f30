"""What client sessions, gone or connected, cost the agent in CPU time and memory."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from benchmarks import kernelspecs, places, processes
from benchmarks.bench import Bench
from benchmarks.client.channel import Channel
from benchmarks.client.protocol import execute_request, make_request
from benchmarks.figures.relay import (
    LARGE_BYTES,
    SMALL_BYTES,
    order_from_flood_kernel,
)
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import SERVERS, Column, Server

ROUNDS = 5
GONE = (0, 4, 32, 1000)
CONNECTED = (1, 4, 16)
EACH_FURTHER: Final = 8
"""Microseconds that the target allows a small message for each session beyond the first."""
LARGE_MESSAGES = 100
SMALL_MESSAGES = 20_000
FILLING_MESSAGES = 80_000
"""Small ones that, with their headers, fill the 64 MiB that an agent keeps in memory."""
RECONNECTS = 500
RESTARTS = {kernelspecs.FLOOD: 100, kernelspecs.PYTHON: 10}
FIRST = 20
"""Reconnects before memory is measured for the first time; a tenth as many restarts."""
SECONDS = 300.0
DETACH_SECONDS = 20.0
MIB = 1024 * 1024


def measure(bench: Bench) -> list[Figure]:
    """CPU time by sessions that are gone and by sessions that are connected; then memory."""
    return [*_measure_gone(bench), *_measure_connected(bench), *_measure_memory(bench)]


def _measure_gone(bench: Bench) -> list[Figure]:
    """One kernel for each number of sessions, in turn, so that the rounds are comparable."""
    counts = [count // 10 if bench.is_quick else count for count in GONE]
    figures = {count: _gone_figure(count) for count in counts}
    messages = LARGE_MESSAGES // 2 if bench.is_quick else LARGE_MESSAGES
    with bench.noting(Column.GATEWAY, *figures.values()), ExitStack() as stack:
        if Column.GATEWAY not in bench.columns:
            return []
        server = stack.enter_context(bench.server(Column.GATEWAY))
        floods = {}
        for count in counts:
            kernel_id = server.start_kernel(kernelspecs.FLOOD)
            visit(server, kernel_id, count)
            channel = stack.enter_context(server.connect(kernel_id))
            pids = processes.agent_pids([kernel_id])
            floods[count] = partial(_seconds_of_large, pids, channel, messages)
        for _ in range(bench.rounds(ROUNDS)):
            bare = floods[0]()
            for count, flood in floods.items():
                seconds = flood() if count else bare
                figures[count].add(Column.GATEWAY, seconds / messages * 1e6)
                if count:
                    figures[count].add(Column.FLOOR, bare / messages * 1e6)
    return list(figures.values())


def _seconds_of_large(agent: Sequence[int], channel: Channel, messages: int) -> float:
    """Return the agent's CPU time for large messages, which push out the small ones before them."""
    _agent_seconds(agent, [channel], FILLING_MESSAGES, SMALL_BYTES)
    return _agent_seconds(agent, [channel], messages, LARGE_BYTES)


def _gone_figure(count: int) -> Figure:
    if not count:
        return Figure(
            "agent CPU per 1 MB message, no session gone, v1", "µs", Target(Bound.AT_MOST, 2500)
        )
    name = f"agent CPU per 1 MB message, {count} sessions gone, v1 (floor: none gone)"
    return Figure(name, "µs", Target(Bound.TIMES_FLOOR, 1.1))


def _measure_connected(bench: Bench) -> list[Figure]:
    figures = {count: _connected_figure(count) for count in CONNECTED}
    messages = SMALL_MESSAGES // 4 if bench.is_quick else SMALL_MESSAGES
    with bench.noting(Column.GATEWAY, *figures.values()), ExitStack() as stack:
        if Column.GATEWAY not in bench.columns:
            return []
        server = stack.enter_context(bench.server(Column.GATEWAY))
        floods = {}
        for count in CONNECTED:
            kernel_id = server.start_kernel(kernelspecs.FLOOD)
            channels = [stack.enter_context(server.connect(kernel_id)) for _ in range(count)]
            for channel in channels:
                channel.settle()
            pids = processes.agent_pids([kernel_id])
            floods[count] = partial(_agent_seconds, pids, channels, messages, SMALL_BYTES)
            floods[count]()
        for _ in range(bench.rounds(ROUNDS)):
            for count, flood in floods.items():
                figures[count].add(Column.GATEWAY, flood() / messages * 1e6)
    return list(figures.values())


def _connected_figure(count: int) -> Figure:
    name = f"agent CPU per small message, {count} session{'s' * (count > 1)} connected, v1"
    return Figure(name, "µs", Target(Bound.AT_MOST, 20 + EACH_FURTHER * (count - 1)))


def _agent_seconds(
    agent: Sequence[int], channels: Sequence[Channel], messages: int, size: int
) -> float:
    """Have a flood sent; return the agent's CPU time until every client has all of it."""
    flood = order_from_flood_kernel(messages, size)
    deadline = time.monotonic() + SECONDS
    first = channels[0]
    first.settle()
    with ThreadPoolExecutor(len(channels)) as pool:
        before = processes.cpu_seconds(agent)
        first.send(execute_request(flood.code, first.session))
        for count in pool.map(lambda each: each.count_until(flood.marker, deadline), channels):
            if count.messages < messages:
                raise TimeoutError(f"{messages - count.messages} messages lost")
        return processes.cpu_seconds(agent) - before


def visit(server: Server, kernel_id: str, times: int) -> None:
    """Load a page so many times: a new session each, which asks for kernel_info and is gone.

    Returns when the last one counts as disconnected.
    """
    for _ in range(times):
        with server.connect(kernel_id) as channel:
            channel.run(make_request("kernel_info_request", {}, channel.session))
    server.wait_for_kernel(kernel_id, "connections", 0, DETACH_SECONDS)


def _measure_memory(bench: Bench) -> list[Figure]:
    reconnects = RECONNECTS // 10 if bench.is_quick else RECONNECTS
    figures = []
    figure = Figure(
        f"agent memory (RSS), growth by {reconnects} sessions that came and went"
        " (peers: the server's)",
        "MiB",
        Target(Bound.AT_MOST, 1),
    )
    figures.append(figure)
    for column in (column for column in SERVERS if column in bench.columns):
        with bench.noting(column, figure), _flood_kernel(bench, column) as (server, kernel_id):
            visit(server, kernel_id, FIRST)
            before = _memory(server, kernel_id)
            visit(server, kernel_id, reconnects)
            figure.add(column, (_memory(server, kernel_id) - before) / MIB)
    for kernel, restarts in RESTARTS.items():
        figures.append(_measure_restarts(bench, kernel, restarts // (5 if bench.is_quick else 1)))
    return figures


def _measure_restarts(bench: Bench, kernel: str, restarts: int) -> Figure:
    is_flood = kernel == kernelspecs.FLOOD
    kind = "flood kernel" if is_flood else "ipykernel"
    opened = _flood_kernel if is_flood else partial(_kernel, name=kernel)
    figure = Figure(
        f"agent memory (RSS), growth by {restarts} restarts, {kind} (peers: the server's)",
        "MiB",
        Target(Bound.AT_MOST, 1),
    )
    for column in (column for column in SERVERS if column in bench.columns):
        with bench.noting(column, figure), opened(bench, column) as (server, kernel_id):
            for _ in range(1 + restarts // 10):
                server.rest.restart_kernel(kernel_id)
            before = _memory(server, kernel_id)
            for _ in range(restarts):
                server.rest.restart_kernel(kernel_id)
            figure.add(column, (_memory(server, kernel_id) - before) / MIB)
    return figure


@contextmanager
def _flood_kernel(bench: Bench, column: Column) -> Iterator[tuple[Server, str]]:
    """A flood kernel whose agent, if there is one, keeps as much output as it ever will."""
    with _kernel(bench, column, kernelspecs.FLOOD) as (server, kernel_id):
        agent = processes.agent_pids([kernel_id])
        with server.connect(kernel_id) as channel:
            for _ in range(2 if agent else 0):
                _agent_seconds(agent, [channel], FILLING_MESSAGES, SMALL_BYTES)
        yield server, kernel_id


@contextmanager
def _kernel(bench: Bench, column: Column, name: str) -> Iterator[tuple[Server, str]]:
    place = places.local(bench, name)
    with place.serve(column) as server, server.kernel(name) as kernel_id:
        yield server, kernel_id


def _memory(server: Server, kernel_id: str) -> int:
    """Resident size of the agent, or of a server without agents."""
    pids = processes.agent_pids([kernel_id]) or server.pids()
    return sum(processes.memory_bytes(pid).resident for pid in pids)
