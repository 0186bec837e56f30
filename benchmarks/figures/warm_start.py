"""How long a user waits for a kernel of a pool: from POST to the result of `1+1`."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Protocol, TypeVar

from benchmarks import kernelspecs, places
from benchmarks.bench import Bench, milliseconds_since, percentile
from benchmarks.figures import many
from benchmarks.figures.cold_start import wait_for_result
from benchmarks.places import Place
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import Column, Server, ServerError

ROUNDS = 100
"""So many that their 99th percentile is not the largest."""
COLD_ROUNDS = 9
CROWD_ROUNDS = 3
SIZE = 32
CROWD = 16
FILLED_SECONDS = 240.0
POLL_SECONDS = 0.1
REST_SECONDS = 5.0
"""After so long the kernels that wait have spares: these are started after two seconds."""
PAUSE_SECONDS = 0.25
"""Before each start, in which what the last one left goes away."""
OURS = Column.GATEWAY


@dataclass(frozen=True)
class Starts:
    """The figures of starts with the same variables.

    Attributes:
        env: the variables.
        cold: likewise without a pool.
    """

    env: Mapping[str, str]
    middle: Figure
    slowest: Figure
    cold: Figure


class Rows:
    """The figures of one place."""

    def __init__(self, where: str) -> None:
        self.starts = [
            _make_starts(where, "", {}, 30, 80),
            _make_starts(where, ", with OMP_NUM_THREADS", {"OMP_NUM_THREADS": "2"}, 120, 250),
            _make_starts(where, ", with LANG", {"LANG": "C.UTF-8"}, 120, 250),
        ]
        self.crowd = Figure(
            f"{CROWD} starts at once from a pool of {CROWD}, all usable, {where}",
            "s",
            Target(Bound.AT_MOST, 1.5),
        )
        self.cold_crowd = Figure(f"{CROWD} starts at once without a pool, all usable, {where}", "s")

    def all(self) -> list[Figure]:
        """In the order of the table."""
        singles = ((each.middle, each.slowest, each.cold) for each in self.starts)
        return [*chain.from_iterable(singles), self.crowd, self.cold_crowd]


def _make_starts(
    where: str, what: str, env: Mapping[str, str], middle: float, slowest: float
) -> Starts:
    name = f"warm start from a pool{what}, {where}: POST → result of 1+1"
    return Starts(
        env,
        Figure(name, "ms", Target(Bound.AT_MOST, middle)),
        Figure(f"{name}, 99th percentile", "ms", Target(Bound.AT_MOST, slowest)),
        Figure(f"start without a pool{what}, {where}: POST → result of 1+1", "ms"),
    )


def measure(bench: Bench) -> list[Figure]:
    """Take kernels from pools: one after the other, then all at once; and do without pools."""
    return measure_places(bench, Rows, lambda place, rows: measure_place(bench, place, rows))


class HasFigures(Protocol):
    """The figures of one place."""

    def all(self) -> list[Figure]:
        """Return them in the order of the table."""


R = TypeVar("R", bound=HasFigures)


def measure_places(
    bench: Bench, make_rows: Callable[[str], R], measure_one: Callable[[Place, R], None]
) -> list[Figure]:
    """Measure this gateway's local kernels, then its containers, as far as there are any."""
    local, container = make_rows(places.LOCAL), make_rows(places.CONTAINER)
    for place, rows in (
        (places.local(bench, kernelspecs.PYTHON), local),
        (places.containers(bench, container.all()), container),
    ):
        if OURS in place.kernels:
            with bench.noting(OURS, *rows.all()):
                measure_one(place, rows)
    return local.all() + container.all()


def measure_place(bench: Bench, place: Place, rows: Rows) -> None:
    """Start kernels in one place, from the pools of a gateway and without."""
    name = place.kernels[OURS]
    with serve_pool(place, name, SIZE) as server:
        for starts in rows.starts:
            for _ in turns(server, SIZE, bench.rounds(ROUNDS)):
                starts.middle.add(OURS, _start(server, name, starts.env))
            starts.slowest.add(OURS, percentile(starts.middle.samples[OURS], 99))
    with serve_pool(place, name, CROWD) as server:
        for _ in range(bench.rounds(CROWD_ROUNDS)):
            wait_until_full(server, CROWD)
            rows.crowd.add(OURS, _start_together(server, name))
    with serve_pool(place, name, 0) as server:
        for starts in rows.starts:
            for _ in range(bench.rounds(COLD_ROUNDS)):
                time.sleep(place.pause)
                starts.cold.add(OURS, _start(server, name, starts.env))
        for _ in range(bench.rounds(CROWD_ROUNDS)):
            time.sleep(place.pause)
            rows.cold_crowd.add(OURS, _start_together(server, name))


def serve_pool(place: Place, name: str, size: int) -> AbstractContextManager[Server]:
    """Run a gateway that keeps so many kernels ready."""
    env = {"EG_POOL_SIZES": f"{name}={size}", "EG_CLIENT_ENVS": "OMP_NUM_THREADS,LANG"}
    return place.serve(OURS, env)


def turns(server: Server, size: int, rounds: int) -> Iterator[None]:
    """Yield whenever a kernel is to be taken from a pool of this size.

    None finds it empty. It is filled again after most of it was taken, and not meanwhile: the
    gateway waits until no kernel has been taken for two seconds.
    """
    for number in range(rounds):
        if number % (size * 4 // 5) == 0:
            wait_until_full(server, size)
        time.sleep(PAUSE_SECONDS)
        yield


def wait_until_full(server: Server, size: int) -> None:
    """Wait until the pool is full, and its kernels have settled."""
    deadline = time.monotonic() + FILLED_SECONDS
    while f"}} {size}.0" not in _ready(server):
        if time.monotonic() > deadline:
            raise ServerError(f"the pool is not full: {_ready(server)}")
        time.sleep(POLL_SECONDS)
    time.sleep(REST_SECONDS)


def _ready(server: Server) -> str:
    lines = server.rest.metrics().splitlines()
    return next((line for line in lines if line.startswith("eg_pool_ready{")), "no pool")


def _start(server: Server, name: str, env: Mapping[str, str]) -> float:
    started = time.perf_counter()
    with server.kernel(name, **env) as kernel_id, server.connect(kernel_id) as channel:
        wait_for_result(channel)
        return milliseconds_since(started)


def _start_together(server: Server, name: str) -> float:
    seconds = many.time_together(partial(many.start, server, name), CROWD)
    for kernel_id in list(server.kernel_ids):
        server.delete_kernel(kernel_id)
    return seconds
