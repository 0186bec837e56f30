"""How long the first cell of a new kernel takes that imports a large module."""

import time

from benchmarks import kernelspecs, places
from benchmarks.bench import Bench, milliseconds_since
from benchmarks.client.protocol import execute_request, make_request
from benchmarks.figures.warm_start import OURS, serve_pool, turns
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import Server, ServerError

ROUNDS = 15
SIZE = 20
MODULE = "pandas"
PRELOADED = "bench_preloaded"


def measure(bench: Bench) -> list[Figure]:
    """Import pandas in containers, whose image has it, of kernelspecs that preload it or not."""
    name = f"first cell `import {MODULE}`"
    target = Target(Bound.AT_MOST, 50)
    pooled = {
        PRELOADED: Figure(f"{name}, preloaded, from a pool, {places.CONTAINER}", "ms", target),
        kernelspecs.DOCKER: Figure(f"{name}, from a pool, {places.CONTAINER}", "ms"),
    }
    cold = {
        PRELOADED: Figure(f"{name}, preloaded, without a pool, {places.CONTAINER}", "ms"),
        kernelspecs.DOCKER: Figure(f"{name}, without a pool, {places.CONTAINER}", "ms"),
    }
    figures = [*pooled.values(), *cold.values()]
    place = places.containers(bench, figures)
    if OURS in place.kernels:
        with bench.noting(OURS, *figures):
            kernelspecs.derive_kernelspec(bench.jupyter_path, PRELOADED, {"preload": [MODULE]})
            for kernel, figure in pooled.items():
                with serve_pool(place, kernel, SIZE) as server:
                    for _ in turns(server, SIZE, bench.rounds(ROUNDS)):
                        figure.add(OURS, _time_import(server, kernel))
            with place.serve(OURS) as server:
                for _ in range(bench.rounds(ROUNDS)):
                    for kernel, figure in cold.items():
                        figure.add(OURS, _time_import(server, kernel))
    return figures


def _time_import(server: Server, kernel: str) -> float:
    with server.kernel(kernel) as kernel_id, server.connect(kernel_id) as channel:
        channel.run(make_request("kernel_info_request", {}, channel.session))
        request = execute_request(f"import {MODULE}", channel.session)
        started = time.perf_counter()
        answers = channel.run(request)
        elapsed = milliseconds_since(started)
    if any(b'"error"' in answer for answer in answers):
        raise ServerError(f"the kernel does not have {MODULE}")
    return elapsed
