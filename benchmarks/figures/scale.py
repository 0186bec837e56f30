"""The cost of one gateway with many kernels, whose engine and agents are simulated."""

import time
from contextlib import closing

from benchmarks import processes
from benchmarks.bench import Bench, milliseconds_since, percentile
from benchmarks.client.rest import KeptConnection
from benchmarks.figures import crowds
from benchmarks.kernelspecs import DOCKER, install_kernelspecs
from benchmarks.report import Figure
from benchmarks.servers import Column, Server, local_site, run_server
from benchmarks.simulated import (
    SimulatedCluster,
    canned,
    connect_to_floor,
    run_cluster,
    wait_until_known,
)
from benchmarks.simulation.kernel import Place

SIZES = (1, 100, 1000)
IDLE_SIZES = (1, 1000)
"""Where half a minute is spent to see what happens by itself."""
ROUNDS = 6
REQUESTS = 30
STARTS = 6
IDLE_SECONDS = 30.0
SETTLE_SECONDS = 2.0
MIB = 1024 * 1024
MODES = {Place.CONTAINERS: "docker", Place.SERVICES: "swarm"}


class Rows:
    """The figures of one number of kernels."""

    def __init__(self, kernels: int, place: Place) -> None:
        where = f"{kernels} {place}" if kernels > 1 else f"{kernels} {place.removesuffix('s')}"
        self.known = Figure(f"boot → state of every kernel listed, {where}", "ms")
        self.middle = Figure(f"GET /api/kernels p50, {where} (floor: the same bytes)", "ms")
        self.tail = Figure(f"GET /api/kernels p99, {where} (floor: the same bytes)", "ms")
        self.cpu = Figure(f"server CPU per GET /api/kernels, {where}", "ms")
        self.start = Figure(f"POST → 201, engine and agents simulated, {where}", "ms")
        self.start_calls = Figure(f"engine calls per start, {where}", "calls")
        self.memory = Figure(f"server memory (PSS, all its processes), {where}", "MiB")
        self.idle_calls = Figure(f"engine calls, idle, {where}", "1/s")
        self.idle_cpu = Figure(f"server CPU, idle, {where}", "% of a core")
        self.idle = [self.idle_calls, self.idle_cpu] if kernels in IDLE_SIZES else []

    def all(self) -> list[Figure]:
        """In the order of the table."""
        return [
            self.known,
            self.middle,
            self.tail,
            self.cpu,
            self.start,
            self.start_calls,
            self.memory,
            *self.idle,
        ]


def measure(bench: Bench) -> list[Figure]:
    """Kernels as containers and as services, in rising numbers; then their WebSockets."""
    found = []
    for place in Place:
        jupyter_path = install_kernelspecs(bench.folder / f"scale-{place}", MODES[place])
        for kernels in SIZES:
            rows = Rows(kernels, place)
            if Column.GATEWAY in bench.columns:
                with (
                    bench.noting(Column.GATEWAY, *rows.all()),
                    run_cluster(bench.folder, place, kernels) as cluster,
                    run_server(
                        Column.GATEWAY, bench.folder, jupyter_path, local_site(cluster.env)
                    ) as server,
                ):
                    _measure(bench, cluster, server, rows)
            found += rows.all()
    return found + crowds.measure(bench)


def _measure(bench: Bench, cluster: SimulatedCluster, server: Server, rows: Rows) -> None:
    started = time.perf_counter()
    size = len(wait_until_known(server, cluster.kernels))
    rows.known.add(Column.GATEWAY, server.boot_seconds * 1000 + milliseconds_since(started))
    time.sleep(SETTLE_SECONDS)
    _measure_lists(bench, server, size, rows)
    _measure_starts(bench, cluster, server, rows)
    pids = server.pids()
    memory = sum(processes.memory_bytes(pid).proportional for pid in pids)
    rows.memory.add(Column.GATEWAY, memory / MIB)
    if rows.idle:
        _measure_idle(bench, cluster, pids, rows)


def _measure_lists(bench: Bench, server: Server, size: int, rows: Rows) -> None:
    seen: dict[Column, list[float]] = {}
    with (
        closing(KeptConnection(server.rest.host, server.rest.port, server.rest.token)) as ours,
        closing(connect_to_floor()) as floor,
    ):
        paths = {Column.GATEWAY: (ours, "/api/kernels")}
        if Column.FLOOR in bench.columns:
            paths[Column.FLOOR] = (floor, canned(size))
        for _ in range(bench.rounds(ROUNDS)):
            for column, (connection, path) in paths.items():
                before = processes.cpu_seconds([server.pid])
                times = [_time(connection, path) for _ in range(REQUESTS)]
                used = processes.cpu_seconds([server.pid]) - before
                rows.middle.add(column, percentile(times, 50))
                seen.setdefault(column, []).extend(times)
                if column is Column.GATEWAY:
                    rows.cpu.add(column, used / REQUESTS * 1000)
    for column, times in seen.items():
        rows.tail.add(column, percentile(times, 99))


def _measure_starts(bench: Bench, cluster: SimulatedCluster, server: Server, rows: Rows) -> None:
    for _ in range(bench.rounds(STARTS)):
        before = cluster.calls()
        started = time.perf_counter()
        kernel_id = server.start_kernel(DOCKER)
        rows.start.add(Column.GATEWAY, milliseconds_since(started))
        rows.start_calls.add(Column.GATEWAY, (cluster.calls() - before).total())
        server.delete_kernel(kernel_id)


def _measure_idle(bench: Bench, cluster: SimulatedCluster, pids: list[int], rows: Rows) -> None:
    seconds = IDLE_SECONDS / (3 if bench.is_quick else 1)
    time.sleep(SETTLE_SECONDS)
    cpu, calls = processes.cpu_seconds(pids), cluster.calls()
    time.sleep(seconds)
    rows.idle_cpu.add(Column.GATEWAY, (processes.cpu_seconds(pids) - cpu) / seconds * 100)
    rows.idle_calls.add(Column.GATEWAY, (cluster.calls() - calls).total() / seconds)


def _time(connection: KeptConnection, path: str) -> float:
    started = time.perf_counter()
    connection.get(path)
    return milliseconds_since(started)
