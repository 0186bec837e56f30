"""Kernels as services of a Swarm, and what a load balancer costs."""

import time
from contextlib import ExitStack
from functools import partial
from itertools import chain

from benchmarks import eg_containers, engine, kernelspecs
from benchmarks.balancers import WebSockets
from benchmarks.bench import Bench
from benchmarks.figures import cold_start, many, relay, round_trip, warm_start
from benchmarks.kernelspecs import DOCKER, FLOOD
from benchmarks.places import Place
from benchmarks.report import Figure
from benchmarks.servers import Column
from benchmarks.swarm import (
    FLOOD_IMAGE,
    NODES,
    Stage,
    prepare_flood_kernel,
    run_stage,
)
from jupyter_wire.messages import Codec

COLD_START_ROUNDS = 5
TOGETHER = 8
TOGETHER_ROUNDS = 3
TOGETHER_PAUSE_SECONDS = 3.0
"""For what the last round left to go away."""
MESSAGES = 30_000
DIRECT = "Swarm"


class Rows:
    """The figures."""

    def __init__(self) -> None:
        self.cold = cold_start.make_figures(DIRECT, limit=1.15)
        self.warm = warm_start.Rows(DIRECT)
        self.together = Figure(f"{TOGETHER} starts at once on {NODES} nodes, all usable", "s")
        self.round_trip = round_trip.make_figures(f"{DIRECT}, v1")
        self.balanced_round_trip = {
            each: round_trip.make_figures(f"{each}, v1") for each in WebSockets
        }
        self.small = _small_figures(DIRECT)
        self.balanced_small = {
            each: [*_small_figures(each), _balancer_figure(each)] for each in WebSockets
        }

    def all(self) -> list[Figure]:
        """In the order of the table."""
        return [
            *self.cold,
            *self.warm.all(),
            self.together,
            *self.round_trip,
            *chain.from_iterable(self.balanced_round_trip.values()),
            *self.small,
            *chain.from_iterable(self.balanced_small.values()),
        ]


def measure(bench: Bench) -> list[Figure]:
    """All on the same Swarm, one group of figures after the other."""
    rows = Rows()
    with bench.noting(Column.GATEWAY, *rows.all()):
        jupyter_path = kernelspecs.install_kernelspecs(bench.folder / "swarm", "swarm")
        image = engine.kernel_image(jupyter_path / "kernels" / DOCKER / "kernel.json")
        prepare_flood_kernel(image, bench.folder, jupyter_path)
        images = [image, FLOOD_IMAGE]
        kernels = {Column.GATEWAY: DOCKER}
        if Column.ENTERPRISE_GATEWAY in bench.columns:
            peer = [*rows.cold, rows.together, *rows.round_trip]
            with bench.noting(Column.ENTERPRISE_GATEWAY, *peer):
                eg_containers.prepare_swarm(image, bench.folder, jupyter_path)
                kernels[Column.ENTERPRISE_GATEWAY] = eg_containers.KERNELSPEC
                images.append(eg_containers.IMAGE)
        with run_stage(bench.folder, jupyter_path, images) as stage:
            _measure(bench, stage, stage.place(kernels, stage.bare_ipykernel(image)), rows)
    return rows.all()


def _measure(bench: Bench, stage: Stage, place: Place, rows: Rows) -> None:
    cold_start.measure_place(bench, place, rows.cold, COLD_START_ROUNDS)
    with bench.noting(Column.GATEWAY, *rows.warm.all()):
        warm_start.measure_place(bench, place, rows.warm)
    _measure_together(bench, place, rows.together)
    round_trip.measure_place(bench, place, Codec.V1, rows.round_trip)
    for each, figures in rows.balanced_round_trip.items():
        round_trip.measure_place(bench, stage.balanced(place, each), Codec.V1, figures)
    floods = stage.place({Column.GATEWAY: FLOOD}, stage.bare_flood_kernel())
    relay.measure_small(bench, floods, Codec.V1, rows.small, MESSAGES)
    for each, figures in rows.balanced_small.items():
        relay.measure_small(bench, stage.balanced(floods, each), Codec.V1, figures, MESSAGES)


def _measure_together(bench: Bench, place: Place, figure: Figure) -> None:
    """Start many kernels at once, by each server and by the bare API in turn."""
    with ExitStack() as stack:
        servers = []
        for column in place.kernels:
            with bench.noting(column, figure):
                servers.append(stack.enter_context(place.serve(column)))
        for _ in range(bench.rounds(TOGETHER_ROUNDS)):
            for server in servers:
                if server.column not in figure.remarks:
                    with bench.noting(server.column, figure):
                        time.sleep(TOGETHER_PAUSE_SECONDS)
                        start = partial(many.start, server, place.kernels[server.column])
                        figure.add(server.column, many.time_together(start, TOGETHER))
                        for kernel_id in list(server.kernel_ids):
                            server.delete_kernel(kernel_id)
            if place.bare and Column.FLOOR in bench.columns:
                with bench.noting(Column.FLOOR, figure):
                    time.sleep(TOGETHER_PAUSE_SECONDS)
                    start = partial(many.start_bare, bench, place, place.bare)
                    figure.add(Column.FLOOR, many.time_together(start, TOGETHER))


def _balancer_figure(where: str) -> Figure:
    return Figure(f"load balancer CPU per small message, flood kernel, {where}, v1", "µs")


def _small_figures(where: str) -> list[Figure]:
    kind = f"flood kernel, {where}, v1"
    return [
        Figure(f"small iopub messages, {kind}", "1/s"),
        Figure(f"server CPU per small message, {kind}", "µs"),
        Figure(f"agent CPU per small message, {kind} (floor: to read it)", "µs"),
    ]
