"""How long a user waits for a kernel of a pool: from POST to the result of `1+1`."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields

from benchmarks import kernelspecs, places, processes
from benchmarks.bench import Bench, milliseconds_since, percentile
from benchmarks.engine import remove_pooled_kernels
from benchmarks.figures.cold_start import wait_for_result
from benchmarks.places import Place
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import Column, Server, ServerError
from enterprise_gateway.services.processproxies.contract import POOL_USERNAME

ROUNDS = 30
SIZE = 4
CROWD = 16
FILLED_SECONDS = 120.0
POLL_SECONDS = 0.1
SPARE_SECONDS = 5.0
"""After so long the kernels that wait have spares: these are started after two seconds."""
OURS = Column.GATEWAY
OF_A_LIBRARY = {"OMP_NUM_THREADS": "2"}
OF_A_PROCESS = {"TZ": "UTC"}
MIB = 1024 * 1024


@dataclass
class Rows:
    """The figures of one place."""

    single: Figure
    slowest: Figure
    library: Figure
    slowest_library: Figure
    process: Figure
    crowd: Figure

    def all(self) -> list[Figure]:
        """In the order of the table."""
        return [getattr(self, field.name) for field in fields(self)]


@dataclass
class _Memory:
    """What a kernel has in memory, agent and spare included: of its own, and as PSS counts it."""

    waiting: Figure
    waiting_shared: Figure
    running: Figure
    running_shared: Figure

    def all(self) -> list[Figure]:
        return [getattr(self, field.name) for field in fields(self)]


def measure(bench: Bench) -> list[Figure]:
    """Take kernels from pools: one after the other, then all at once."""
    found = []
    container = make_rows(places.CONTAINER)
    memory = _Memory(
        *(
            Figure(f"memory of a kernel that {what}, {where}, {how}", "MiB")
            for what, where in (
                ("waits in a pool", places.CONTAINER),
                ("was taken and has run a cell", places.CONTAINER),
            )
            for how in ("its own", "PSS")
        )
    )
    for place, rows in (
        (places.local(bench, kernelspecs.PYTHON), make_rows(places.LOCAL)),
        (places.containers(bench, [*container.all(), *memory.all()]), container),
    ):
        if OURS in place.kernels:
            with bench.noting(OURS, *rows.all()):
                measure_place(bench, place, rows)
            if rows is container:
                with bench.noting(OURS, *memory.all()):
                    _measure_memory(place, memory)
        found += rows.all()
    return [*found, *memory.all()]


def make_rows(where: str) -> Rows:
    """Make the figures of one place."""

    def row(what: str, limit: float | None) -> Figure:
        name = f"warm start from a pool{what}, {where}: POST → result of 1+1"
        return Figure(name, "ms", None if limit is None else Target(Bound.AT_MOST, limit))

    def slowest(figure: Figure, limit: float) -> Figure:
        return Figure(f"{figure.name}, 99th percentile", "ms", Target(Bound.AT_MOST, limit))

    single = row("", 30)
    library = row(", with OMP_NUM_THREADS", 120)
    return Rows(
        single,
        slowest(single, 80),
        library,
        slowest(library, 250),
        row(", with TZ", None),
        Figure(
            f"{CROWD} starts at once from a pool of {CROWD}, all usable, {where}",
            "s",
            Target(Bound.AT_MOST, 1.5),
        ),
    )


def measure_place(bench: Bench, place: Place, rows: Rows) -> None:
    """Take kernels from the pools of a gateway whose kernels are there."""
    name = place.kernels[OURS]
    try:
        with _pool(place, name, SIZE) as server:
            for figure, rest, env in (
                (rows.single, 0.0, {}),
                (rows.library, SPARE_SECONDS, OF_A_LIBRARY),
                (rows.process, 0.0, OF_A_PROCESS),
            ):
                for _ in range(bench.rounds(ROUNDS)):
                    _wait_until_full(server, SIZE)
                    time.sleep(rest)
                    figure.add(OURS, _start(server, name, env))
        rows.slowest.add(OURS, percentile(rows.single.samples[OURS], 99))
        rows.slowest_library.add(OURS, percentile(rows.library.samples[OURS], 99))
        with _pool(place, name, CROWD) as server:
            _wait_until_full(server, CROWD)
            with ThreadPoolExecutor(CROWD) as pool:
                times = pool.map(lambda _: _start(server, name, {}), range(CROWD))
                rows.crowd.add(OURS, max(times) / 1000)
    finally:
        _remove_pool()


def _measure_memory(place: Place, memory: _Memory) -> None:
    """Compare kernels that wait with the same ones when users have them."""
    name = place.kernels[OURS]
    try:
        with _pool(place, name, SIZE) as server, ExitStack() as stack:
            _wait_until_full(server, SIZE)
            time.sleep(SPARE_SECONDS)
            waiting = processes.marked_pids([f"KERNEL_USERNAME={POOL_USERNAME}"])
            _add_memory(waiting, memory.waiting, memory.waiting_shared)
            taken = []
            for _ in range(SIZE):
                kernel_id = stack.enter_context(server.kernel(name))
                wait_for_result(stack.enter_context(server.connect(kernel_id)))
                taken.append(kernel_id)
            _add_memory(processes.kernel_pids(taken), memory.running, memory.running_shared)
    finally:
        _remove_pool()


def _add_memory(pids: list[int], own: Figure, shared: Figure) -> None:
    sizes = [processes.memory_bytes(pid) for pid in pids]
    own.add(OURS, sum(size.private for size in sizes) / SIZE / MIB)
    shared.add(OURS, sum(size.proportional for size in sizes) / SIZE / MIB)


@contextmanager
def _pool(place: Place, name: str, size: int) -> Iterator[Server]:
    env = {
        "EG_POOL_SIZES": f"{name}={size}",
        "EG_CLIENT_ENVS": ",".join([*OF_A_LIBRARY, *OF_A_PROCESS]),
    }
    with place.serve(OURS, env) as server:
        yield server


def _remove_pool() -> None:
    remove_pooled_kernels()
    processes.kill(processes.marked_pids([f"KERNEL_USERNAME={POOL_USERNAME}"]))


def _wait_until_full(server: Server, size: int) -> None:
    deadline = time.monotonic() + FILLED_SECONDS
    while f"}} {size}.0" not in _ready(server):
        if time.monotonic() > deadline:
            raise ServerError(f"the pool is not full: {_ready(server)}")
        time.sleep(POLL_SECONDS)


def _ready(server: Server) -> str:
    lines = server.rest.metrics().splitlines()
    return next((line for line in lines if line.startswith("eg_pool_ready{")), "no pool")


def _start(server: Server, name: str, env: Mapping[str, str]) -> float:
    started = time.perf_counter()
    with server.kernel(name, **env) as kernel_id, server.connect(kernel_id) as channel:
        wait_for_result(channel)
        return milliseconds_since(started)
