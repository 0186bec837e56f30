"""Sixteen kernels: started at once, then left alone with a client each."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from benchmarks import kernelspecs, places, processes
from benchmarks.bench import Bench
from benchmarks.figures.cold_start import wait_for_result
from benchmarks.places import BareKernel, Place
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import Column, Server

KERNELS = 16
ROUNDS = 3
SETTLE_SECONDS = 5.0
IDLE_SECONDS = 30.0
MIB = 1024 * 1024


class Rows:
    """The figures of one kind of kernel."""

    def __init__(self, where: str, starts: Target) -> None:
        self.starts = Figure(f"{KERNELS} starts at once, all usable, {where}", "s", starts)
        self.idle = Figure(
            f"server CPU, idle with {KERNELS} kernels and WebSockets, {where}",
            "% of a core",
            Target(Bound.AT_MOST, 0.5),
        )
        self.proportional = Figure(
            f"server memory (PSS, all its processes), {where}", "MiB", Target(Bound.AT_MOST, 80)
        )
        self.resident = Figure(f"server memory (RSS, all its processes), {where}", "MiB")
        self.main = Figure(
            f"server memory (RSS, main process), {where}", "MiB", Target(Bound.AT_MOST, 80)
        )
        self.agent = Figure(
            f"agent memory (RSS, largest), {where}", "MiB", Target(Bound.AT_MOST, 30)
        )
        self.agent_proportional = Figure(
            f"agent memory (PSS, largest), {where}", "MiB", Target(Bound.AT_MOST, 15)
        )
        self.agent_private = Figure(f"agent memory (not shared, largest), {where}", "MiB")
        self.agent_start = Figure(f"agent CPU until its kernel is of use, mean, {where}", "ms")
        self.agent_idle = Figure(f"agent CPU, idle, mean, {where}", "% of a core")

    def all(self) -> list[Figure]:
        """In the order of the table."""
        return [
            self.starts,
            self.idle,
            self.proportional,
            self.resident,
            self.main,
            self.agent,
            self.agent_proportional,
            self.agent_private,
            self.agent_start,
            self.agent_idle,
        ]


def measure(bench: Bench) -> list[Figure]:
    """Local kernels on every server, containers where there is an engine."""
    local = Rows(places.LOCAL, Target(Bound.TIMES_FASTER_PEER, 1))
    _measure_place(bench, places.local(bench, kernelspecs.PYTHON), local)
    container = Rows(places.CONTAINER, Target(Bound.TIMES_FLOOR, 1.1))
    _measure_place(bench, places.containers(bench, container.all()), container)
    return local.all() + container.all()


def _measure_place(bench: Bench, place: Place, rows: Rows) -> None:
    for column, kernel in place.kernels.items():
        with bench.noting(column, *rows.all()):
            _measure_server(bench, column, kernel, rows)
    bare = place.bare
    if bare is None or Column.FLOOR not in bench.columns:
        return

    with bench.noting(Column.FLOOR, rows.starts):
        for _ in range(bench.rounds(ROUNDS)):
            rows.starts.add(
                Column.FLOOR, time_together(partial(start_bare, bench, place, bare), KERNELS)
            )


def _measure_server(bench: Bench, column: Column, kernel: str, rows: Rows) -> None:
    with bench.server(column) as server:
        for _ in range(bench.rounds(ROUNDS) - 1):
            rows.starts.add(column, time_together(partial(start, server, kernel), KERNELS))
            for kernel_id in list(server.kernel_ids):
                server.delete_kernel(kernel_id)
        with ExitStack() as stack:
            rows.starts.add(column, time_together(partial(start, server, kernel), KERNELS, stack))
            agents = processes.agent_pids(server.kernel_ids)
            if agents:
                cpu = processes.cpu_seconds(agents) / len(agents)
                rows.agent_start.add(column, cpu * 1000)
            _measure_idle(server, rows, IDLE_SECONDS / (3 if bench.is_quick else 1))


def _measure_idle(server: Server, rows: Rows, seconds: float) -> None:
    time.sleep(SETTLE_SECONDS)
    pids = server.pids()
    agents = processes.agent_pids(server.kernel_ids)
    server_cpu, agent_cpu = processes.cpu_seconds(pids), processes.cpu_seconds(agents)
    time.sleep(seconds)
    server_cpu = processes.cpu_seconds(pids) - server_cpu
    agent_cpu = processes.cpu_seconds(agents) - agent_cpu
    rows.idle.add(server.column, server_cpu / seconds * 100)
    sizes = [processes.memory_bytes(pid) for pid in pids]
    rows.resident.add(server.column, sum(size.resident for size in sizes) / MIB)
    rows.proportional.add(server.column, sum(size.proportional for size in sizes) / MIB)
    rows.main.add(server.column, sizes[0].resident / MIB)
    if agents:
        sizes = [processes.memory_bytes(pid) for pid in agents]
        rows.agent.add(server.column, max(size.resident for size in sizes) / MIB)
        largest = max(size.proportional for size in sizes)
        rows.agent_proportional.add(server.column, largest / MIB)
        rows.agent_private.add(server.column, max(size.private for size in sizes) / MIB)
        rows.agent_idle.add(server.column, agent_cpu / len(agents) / seconds * 100)


def time_together(
    act: Callable[[ExitStack, int], None], count: int, stack: ExitStack | None = None
) -> float:
    """Call `act` for every number below `count` at once.

    What it opens is closed at the end, or with `stack`.

    Returns:
        Seconds until the last is done.
    """
    with ExitStack() as own, ThreadPoolExecutor(count) as pool:
        stacks = [(stack or own).enter_context(ExitStack()) for _ in range(count)]
        started = time.perf_counter()
        for _ in pool.map(act, stacks, range(count)):
            pass
        return time.perf_counter() - started


def start(server: Server, kernel: str, stack: ExitStack, _number: int) -> None:
    """Start a kernel, and wait until it is of use."""
    channel = stack.enter_context(server.connect(server.start_kernel(kernel)))
    wait_for_result(channel)


def start_bare(bench: Bench, place: Place, bare: BareKernel, stack: ExitStack, number: int) -> None:
    """Likewise without a server."""
    channel = place.dial(stack.enter_context(bare(bench.folder / f"bare-{number}")))
    stack.callback(channel.close)
    channel.wait_until_live()
