"""How long the cell `1` takes: from execute_request until both reply and idle are there."""

import time
from contextlib import ExitStack

from benchmarks import kernelspecs, places
from benchmarks.bench import Bench, milliseconds_since, percentile
from benchmarks.client.channel import Channel
from benchmarks.places import Place
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import Column
from jupyter_wire.messages import Codec

ROUNDS = 9
REQUESTS = 30
WARM_UP_REQUESTS = 5


def measure(bench: Bench) -> list[Figure]:
    """The same client code against the same kernel, through each server and directly, in turn."""
    found = []
    for codec in Codec:
        figures = make_figures(f"{places.LOCAL}, {codec}")
        measure_place(bench, places.local(bench, kernelspecs.PYTHON), codec, figures)
        found += figures
    figures = make_figures(f"{places.CONTAINER}, {Codec.V1}")
    measure_place(bench, places.containers(bench, figures), Codec.V1, figures)
    return found + figures


def make_figures(where: str) -> list[Figure]:
    """The middle, which has a target, and the tail."""
    return [
        Figure(f"execute round trip p50, {where}", "ms", Target(Bound.ABOVE_FLOOR, 1.5)),
        Figure(f"execute round trip p99, {where}", "ms"),
    ]


def measure_place(bench: Bench, place: Place, codec: Codec, figures: list[Figure]) -> None:
    """Time requests in one place, to each server and to a bare kernel in turn."""
    middle, tail = figures
    seen: dict[Column, list[float]] = {}
    with ExitStack() as stack:
        channels = _connect(bench, stack, place, codec, figures)
        for _ in range(bench.rounds(ROUNDS)):
            for column, channel in channels.items():
                if column not in middle.remarks:
                    with bench.noting(column, *figures):
                        times = _time_requests(channel)
                        middle.add(column, percentile(times, 50))
                        seen.setdefault(column, []).extend(times)
    for column, times in seen.items():
        tail.add(column, percentile(times, 99))


def _connect(
    bench: Bench, stack: ExitStack, place: Place, codec: Codec, figures: list[Figure]
) -> dict[Column, Channel]:
    channels: dict[Column, Channel] = {}
    for column, kernel in place.kernels.items():
        with bench.noting(column, *figures):
            server = stack.enter_context(place.serve(column))
            connected = stack.enter_context(server.connect(server.start_kernel(kernel), codec))
            connected.settle()
            channels[column] = connected
    if place.bare and Column.FLOOR in bench.columns:
        with bench.noting(Column.FLOOR, *figures):
            floor = place.dial(stack.enter_context(place.bare(bench.folder / "bare")))
            stack.callback(floor.close)
            floor.wait_until_live()
            floor.settle()
            channels[Column.FLOOR] = floor
    for column, channel in channels.items():
        with bench.noting(column, *figures):
            for _ in range(WARM_UP_REQUESTS):
                channel.execute("1")
    return channels


def _time_requests(channel: Channel) -> list[float]:
    times = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        channel.execute("1")
        times.append(milliseconds_since(started))
    return times
