"""How long a user waits for a kernel of a pool: from POST to the result of `1+1`."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

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
OURS = Column.GATEWAY


def measure(bench: Bench) -> list[Figure]:
    """Take kernels from pools: one after the other, then all at once."""
    found = []
    container = _figures(places.CONTAINER)
    for place, figures in (
        (places.local(bench, kernelspecs.PYTHON), _figures(places.LOCAL)),
        (places.containers(bench, container), container),
    ):
        if OURS in place.kernels:
            with bench.noting(OURS, *figures):
                _measure_place(bench, place, figures)
        found += figures
    return found


def _figures(where: str) -> list[Figure]:
    name = f"warm start from a pool, {where}: POST → result of 1+1"
    return [
        Figure(name, "ms", Target(Bound.AT_MOST, 30)),
        Figure(f"{name}, 99th percentile", "ms", Target(Bound.AT_MOST, 80)),
        Figure(
            f"{CROWD} starts at once from a pool of {CROWD}, all usable, {where}",
            "s",
            Target(Bound.AT_MOST, 1.5),
        ),
    ]


def _measure_place(bench: Bench, place: Place, figures: list[Figure]) -> None:
    single, slowest, crowd = figures
    name = place.kernels[OURS]
    try:
        with bench.server(OURS, {"EG_POOL_SIZES": f"{name}={SIZE}"}) as server:
            for _ in range(bench.rounds(ROUNDS)):
                _wait_until_full(server, SIZE)
                single.add(OURS, _start(server, name))
        slowest.add(OURS, percentile(single.samples[OURS], 99))
        with bench.server(OURS, {"EG_POOL_SIZES": f"{name}={CROWD}"}) as server:
            _wait_until_full(server, CROWD)
            with ThreadPoolExecutor(CROWD) as pool:
                crowd.add(OURS, max(pool.map(partial(_start, server), [name] * CROWD)) / 1000)
    finally:
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


def _start(server: Server, name: str) -> float:
    started = time.perf_counter()
    with server.kernel(name) as kernel_id, server.connect(kernel_id) as channel:
        wait_for_result(channel)
        return milliseconds_since(started)
