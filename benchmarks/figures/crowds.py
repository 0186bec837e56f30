"""The cost of many WebSockets for one gateway; their kernels are simulated."""

import asyncio
import json
import time

from benchmarks import processes
from benchmarks.bench import Bench, percentile
from benchmarks.client import crowd
from benchmarks.client.crowd import Crowd, Target
from benchmarks.report import Figure
from benchmarks.servers import Column, Server, local_site, run_server
from benchmarks.simulated import SimulatedCluster, run_cluster, wait_until_known
from benchmarks.simulation.kernel import AGENT_PORT, Place, make_kernel
from jupyter_wire.messages import V1_SUBPROTOCOL

WEBSOCKETS = 1000
BUSY = 200
RATE = 10.0
"""Messages a second of each busy kernel."""
IDLE_SECONDS = 20.0
BUSY_SECONDS = 15.0
SETTLE_SECONDS = 3.0
ARRIVAL_SECONDS = 5.0
KIB = 1024
MIB = 1024 * 1024


class Rows:
    """The figures."""

    def __init__(self) -> None:
        idle = f"{WEBSOCKETS} idle WebSockets"
        busy = f"{BUSY} of them with {RATE:g} messages a second"
        self.memory = Figure(f"server memory (PSS, all its processes), {idle}", "MiB")
        self.memory_each = Figure("server memory (PSS) per idle WebSocket", "KiB")
        self.idle = Figure(f"server CPU, {idle}", "% of a core")
        self.idle_each = Figure("server CPU per idle WebSocket and its kernel", "µs/s")
        self.busy = Figure(f"server CPU, {busy}", "% of a core")
        self.busy_each = Figure(f"server CPU per message, {busy}", "µs")
        self.busy_memory = Figure(f"server memory (PSS, all its processes), {busy}", "MiB")
        self.middle = Figure(f"agent → client p50, {busy} (floor: without a server)", "ms")
        self.tail = Figure(f"agent → client p99, {busy} (floor: without a server)", "ms")

    def all(self) -> list[Figure]:
        """In the order of the table."""
        return list(vars(self).values())


def measure(bench: Bench) -> list[Figure]:
    """Open a WebSocket to each of a thousand kernels, wait, then have some kernels send."""
    rows = Rows()
    if Column.GATEWAY in bench.columns:
        with (
            bench.noting(Column.GATEWAY, *rows.all()),
            run_cluster(bench.folder, Place.CONTAINERS, WEBSOCKETS) as cluster,
            run_server(
                Column.GATEWAY, bench.folder, bench.jupyter_path, local_site(cluster.env)
            ) as server,
            asyncio.Runner() as runner,
            crowd.running(runner) as clients,
        ):
            runner.run(_measure_server(bench, cluster, server, clients, rows))
    if Column.FLOOR in bench.columns:
        with (
            bench.noting(Column.FLOOR, rows.middle, rows.tail),
            run_cluster(bench.folder, Place.CONTAINERS, WEBSOCKETS) as cluster,
            asyncio.Runner() as runner,
            crowd.running(runner) as clients,
        ):
            runner.run(_measure_floor(bench, cluster, clients, rows))
    return rows.all()


async def _measure_server(
    bench: Bench, cluster: SimulatedCluster, server: Server, clients: Crowd, rows: Rows
) -> None:
    column = server.column
    models = json.loads(wait_until_known(server, WEBSOCKETS))
    await asyncio.sleep(SETTLE_SECONDS)
    pids = server.pids()
    before = _proportional_bytes(pids)
    await clients.connect([_through(server, model["id"]) for model in models])
    await asyncio.sleep(SETTLE_SECONDS)
    idle_seconds = _seconds(bench, IDLE_SECONDS)
    cpu = processes.cpu_seconds(pids)
    await asyncio.sleep(idle_seconds)
    idle = (processes.cpu_seconds(pids) - cpu) / idle_seconds
    memory = _proportional_bytes(pids)
    rows.memory.add(column, memory / MIB)
    rows.memory_each.add(column, (memory - before) / WEBSOCKETS / KIB)
    rows.idle.add(column, idle * 100)
    rows.idle_each.add(column, idle / WEBSOCKETS * 1e6)
    cpu = processes.cpu_seconds(pids)
    seconds, sent = await _measure_flow(bench, cluster, column, clients, rows)
    cpu = processes.cpu_seconds(pids) - cpu
    rows.busy.add(column, cpu / seconds * 100)
    rows.busy_each.add(column, (cpu - idle * seconds) / sent * 1e6)
    rows.busy_memory.add(column, _proportional_bytes(pids) / MIB)


async def _measure_floor(
    bench: Bench, cluster: SimulatedCluster, clients: Crowd, rows: Rows
) -> None:
    kernels = (make_kernel(number) for number in range(1, WEBSOCKETS + 1))
    headers = {"Sec-WebSocket-Protocol": V1_SUBPROTOCOL}
    await clients.connect(
        [Target(kernel.address, AGENT_PORT, "/v1/channels", headers) for kernel in kernels]
    )
    await _measure_flow(bench, cluster, Column.FLOOR, clients, rows)


async def _measure_flow(
    bench: Bench, cluster: SimulatedCluster, column: Column, clients: Crowd, rows: Rows
) -> tuple[float, int]:
    """Have messages sent for a while; returns how long that took and how many they were."""
    started = time.perf_counter()
    cluster.begin_flow(BUSY, RATE)
    await asyncio.sleep(_seconds(bench, BUSY_SECONDS))
    sent = cluster.end_flow()
    seconds = time.perf_counter() - started
    await clients.wait_for(sent, ARRIVAL_SECONDS)
    delays = [delay * 1000 for delay in clients.delays]
    rows.middle.add(column, percentile(delays, 50))
    rows.tail.add(column, percentile(delays, 99))
    if len(delays) < sent:
        rows.middle.losses[column] = sent - len(delays)
    return seconds, sent


def _through(server: Server, kernel_id: str) -> Target:
    rest = server.rest
    headers = {
        "Authorization": f"token {rest.token}",
        "Sec-WebSocket-Protocol": V1_SUBPROTOCOL,
    }
    path = f"/api/kernels/{kernel_id}/channels?session_id={kernel_id}"
    return Target(rest.host, rest.port, path, headers)


def _seconds(bench: Bench, usual: float) -> float:
    return usual / (3 if bench.is_quick else 1)


def _proportional_bytes(pids: list[int]) -> int:
    return sum(processes.memory_bytes(pid).proportional for pid in pids)
