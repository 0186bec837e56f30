"""How long the cell `1` takes: from execute_request until both reply and idle are there."""

import time
from contextlib import ExitStack

from benchmarks import kernelspecs
from benchmarks.bench import Bench, milliseconds_since, percentile
from benchmarks.channel import Channel, ZmqChannel
from benchmarks.protocol import Codec
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import SERVERS, Column

ROUNDS = 9
REQUESTS = 30
WARM_UP_REQUESTS = 5


def measure(bench: Bench) -> list[Figure]:
    """The same client code against the same kernel, through each server and directly, in turn."""
    return [figure for codec in Codec for figure in _measure_codec(bench, codec)]


def _measure_codec(bench: Bench, codec: Codec) -> list[Figure]:
    middle = Figure(f"execute round trip p50, {codec}", "ms", Target(Bound.ABOVE_FLOOR, 1.5))
    tail = Figure(f"execute round trip p99, {codec}", "ms")
    seen: dict[Column, list[float]] = {}
    with ExitStack() as stack:
        channels = _connect(bench, stack, codec, middle)
        for _ in range(bench.rounds(ROUNDS)):
            for column, channel in channels.items():
                if column not in middle.remarks:
                    with bench.noting(column, middle, tail):
                        times = _time_requests(channel)
                        middle.add(column, percentile(times, 50))
                        seen.setdefault(column, []).extend(times)
    for column, times in seen.items():
        tail.add(column, percentile(times, 99))
    return [middle, tail]


def _connect(bench: Bench, stack: ExitStack, codec: Codec, figure: Figure) -> dict[Column, Channel]:
    channels: dict[Column, Channel] = {}
    for column in SERVERS:
        if column in bench.columns:
            with bench.noting(column, figure):
                server = stack.enter_context(bench.server(column))
                kernel_id = server.start_kernel(kernelspecs.PYTHON)
                connected = stack.enter_context(server.connect(kernel_id, codec))
                connected.settle()
                channels[column] = connected
    with bench.noting(Column.FLOOR, figure):
        floor = ZmqChannel(
            stack.enter_context(kernelspecs.bare_kernel(kernelspecs.PYTHON, bench.folder))
        )
        stack.callback(floor.close)
        floor.wait_until_live()
        floor.settle()
        channels[Column.FLOOR] = floor
    for column, channel in channels.items():
        with bench.noting(column, figure):
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
