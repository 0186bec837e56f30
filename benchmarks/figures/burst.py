"""Fifty kernels at once, and what other clients of the server notice of it."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from benchmarks import kernelspecs, places
from benchmarks.bench import FAILURES, Bench, milliseconds_since, percentile
from benchmarks.client.rest import KeptConnection
from benchmarks.figures import many
from benchmarks.places import Place
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import Column, Server

KERNELS = 50
ROUNDS = 3
PAUSE_SECONDS = 0.01
"""Between two requests of the other client."""


def measure(bench: Bench) -> list[Figure]:
    """Local kernels on every server, containers where there is an engine."""
    local, container = _figures(places.LOCAL), _figures(places.CONTAINER)
    _measure_place(bench, places.local(bench, kernelspecs.PYTHON), local)
    _measure_place(bench, places.containers(bench, container), container)
    return local + container


def _figures(where: str) -> list[Figure]:
    return [
        Figure(f"{KERNELS} starts at once, until the last is usable, {where}", "s"),
        Figure(
            f"{KERNELS} starts at once, of them failed, {where}",
            "kernels",
            Target(Bound.AT_MOST, 0),
        ),
        Figure(f"GET /api of another client meanwhile, median, {where}", "ms"),
        Figure(
            f"GET /api of another client meanwhile, 99th percentile, {where}",
            "ms",
            Target(Bound.AT_MOST, 50),
        ),
    ]


def _measure_place(bench: Bench, place: Place, figures: list[Figure]) -> None:
    starts, failed, middle, slowest = figures
    for column, kernel in place.kernels.items():
        with bench.noting(column, *figures), bench.server(column) as server:
            for _ in range(bench.rounds(ROUNDS)):
                errors: list[Exception] = []
                with _asking(server) as waits:
                    act = partial(_start, server, kernel, errors)
                    starts.add(column, many.time_together(act, KERNELS))
                failed.add(column, len(errors))
                bench.failures += [f"{column}, {failed.name}: {error}" for error in errors]
                middle.add(column, percentile(waits, 50))
                slowest.add(column, percentile(waits, 99))
                for kernel_id in list(server.kernel_ids):
                    server.delete_kernel(kernel_id)
    bare = place.bare
    if bare is not None and Column.FLOOR in bench.columns:
        with bench.noting(Column.FLOOR, starts):
            for _ in range(bench.rounds(ROUNDS)):
                act = partial(many.start_bare, bench, place, bare)
                starts.add(Column.FLOOR, many.time_together(act, KERNELS))


def _start(
    server: Server, kernel: str, errors: list[Exception], stack: ExitStack, number: int
) -> None:
    try:
        many.start(server, kernel, stack, number)
    except FAILURES as error:
        errors.append(error)


@contextmanager
def _asking(server: Server) -> Iterator[list[float]]:
    """Send one GET after the other for the time of a block; yields how long each took, in ms."""
    waits: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        connection = KeptConnection(server.rest.host, server.rest.port, server.rest.token)
        while not is_over.is_set():
            started = time.perf_counter()
            connection.get("/api")
            waits.append(milliseconds_since(started))
            time.sleep(PAUSE_SECONDS)
        connection.close()

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield waits
    finally:
        is_over.set()
        asker.join()
