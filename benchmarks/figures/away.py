"""A client that is away while its kernel prints a lot, and comes back through another replica."""

import re
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from uuid import uuid4

from benchmarks import kernelspecs, processes
from benchmarks.bench import Bench
from benchmarks.client.channel import WebSocketChannel
from benchmarks.client.protocol import execute_request
from benchmarks.figures.relay import LARGE_BYTES, order_from_flood_kernel
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import SERVERS, Column, local_site, run_server

HALF_BYTES = 250_000_000
"""Of what is printed in large messages, and again in small ones."""
SMALL_TEXT_BYTES = 1000
SMALL_BYTES = 1600
"""Of a small message, its headers included."""
LIMIT_MIB = 64 + 30
SECONDS = 300.0
HEADER = re.compile(rb'"msg_id":"[0-9a-f]{32}_(\d+)","msg_type":"(?:stream|display_data)"')
"""In a message of a flood, which begins with its header."""
HEADER_BYTES = 512
MARKER_BYTES = 1024
MIB = 1024 * 1024


def measure(bench: Bench) -> list[Figure]:
    """Our replica is killed before the client comes back; peers only lose the client."""
    half = HALF_BYTES // (4 if bench.is_quick else 1)
    kind = f"{half * 2 // 1_000_000} MB printed while the client was away"
    lost = Figure(f"{kind}: lost or out of order", "messages", Target(Bound.AT_MOST, 0))
    memory = Figure(
        f"{kind}: agent memory at its peak (RSS; peers: the server's)",
        "MiB",
        Target(Bound.AT_MOST, LIMIT_MIB),
    )
    rate = Figure(f"{kind}: delivery after its return", "MB/s")
    figures = [lost, memory, rate]
    for column in (column for column in SERVERS if column in bench.columns):
        with bench.noting(column, *figures):
            _measure_column(bench, column, half, figures)
    return figures


def _measure_column(bench: Bench, column: Column, half: int, figures: list[Figure]) -> None:
    lost, memory, rate = figures
    orders = [(half // LARGE_BYTES, LARGE_BYTES), (half // SMALL_BYTES, SMALL_TEXT_BYTES)]
    floods = [order_from_flood_kernel(*order) for order in orders]
    shared = _shared_env(bench)
    with ExitStack() as stack:
        server = stack.enter_context(
            run_server(column, bench.folder, bench.jupyter_path, local_site(shared))
        )
        kernel_id = server.start_kernel(kernelspecs.FLOOD)
        agent = processes.agent_pids([kernel_id])
        session = uuid4().hex
        reading = Reading()
        with server.connect(kernel_id, session=session) as channel:
            for flood in floods:
                channel.send(execute_request(flood.code, channel.session))
            # A status: by then the kernel has begun, and the second order is behind the first.
            reading.take(channel.receive(time.monotonic() + SECONDS))
            reading.take_received(channel)
        if agent:
            processes.kill(server.pids())
            server = stack.enter_context(
                run_server(column, bench.folder, bench.jupyter_path, local_site(shared))
            )
            server.kernel_ids.append(kernel_id)
        server.wait_for_kernel(kernel_id, "execution_state", "idle", SECONDS)
        with server.connect(kernel_id, session=session) as channel:
            started = time.perf_counter()
            reading.take_until(floods[-1].marker, channel)
            seconds = time.perf_counter() - started
        expected = sum(flood.messages + 1 for flood in floods)
        lost.add(column, expected - reading.flooded + reading.misplaced)
        rate.add(column, reading.payload_bytes / 1e6 / seconds)
        memory.add(column, sum(map(processes.peak_bytes, agent or server.pids())) / MIB)


def _shared_env(bench: Bench) -> Mapping[str, str]:
    """What replicas share: the folder of local kernels, and the secret of their tokens."""
    runtime = bench.folder / f"runtime-{uuid4().hex[:8]}"
    return {"JUPYTER_RUNTIME_DIR": str(runtime), "EG_CLUSTER_SECRET": uuid4().hex}


class Reading:
    """What a client has got from the flood kernel, over its connections.

    Attributes:
        flooded: messages of the floods, their markers included, without repeats.
        misplaced: those that came after a later one.
        payload_bytes: of all messages.
    """

    def __init__(self) -> None:
        self.flooded = 0
        self.misplaced = 0
        self.payload_bytes = 0
        self._seen: set[bytes] = set()
        self._latest = 0

    def take(self, message: bytes) -> None:
        """Count one message."""
        self.payload_bytes += len(message)
        found = HEADER.search(message, 0, HEADER_BYTES)
        if found is None or found[1] in self._seen:
            return
        self._seen.add(found[1])
        self.flooded += 1
        number = int(found[1])
        self.misplaced += number < self._latest
        self._latest = number

    def take_until(self, marker: bytes, channel: WebSocketChannel) -> None:
        """Count messages up to the one that holds `marker`."""
        deadline = time.monotonic() + SECONDS
        message = b""
        while marker not in message[-MARKER_BYTES:]:
            message = channel.receive(deadline)
            self.take(message)

    def take_received(self, channel: WebSocketChannel) -> None:
        """Count what the client has received besides: it may have acknowledged that."""
        with suppress(TimeoutError):
            while True:
                self.take(channel.receive(deadline=0))
