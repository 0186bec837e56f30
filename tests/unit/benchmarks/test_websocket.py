"""The client that measures: it must count right, whatever the cuts of the stream."""

import socket
import struct
import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.websocket import SEARCHED_BYTES, FrameCounter, Opcode, WebSocket

MARKER = b"the end"


def frame(opcode: Opcode, payload: bytes) -> bytes:
    """An unmasked frame, as servers send it."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, size) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


SIZES = st.lists(st.sampled_from([0, 1, 125, 126, 65535, SEARCHED_BYTES + 1]), max_size=6)
CUTS = st.sampled_from([11, 1000, 65536, 1_000_000])
"""Small ones cut through headers."""


@settings(deadline=None)  # other tests share the machine
@given(sizes=SIZES, cut=CUTS)
def test_counter_counts_messages_and_finds_the_marker(sizes: list[int], cut: int) -> None:
    """Messages, bytes and pings are right, and the marker is found in the piece that ends it."""
    stream = b"".join(
        frame(Opcode.BINARY, b"x" * size) + frame(Opcode.PING, b"12345678") for size in sizes
    )
    stream += frame(Opcode.TEXT, MARKER)
    counter = FrameCounter()
    pieces = [stream[start : start + cut] for start in range(0, len(stream), cut)]
    found = [MARKER in counter.feed(piece) for piece in pieces]
    assert found == [False] * (len(pieces) - 1) + [True]
    assert counter.messages == len(sizes) + 1
    assert counter.payload_bytes == sum(sizes) + len(MARKER)
    assert counter.pings == [b"12345678"] * len(sizes)


@settings(deadline=None)  # other tests share the machine
@given(sizes=SIZES, cut=CUTS)
def test_counter_collects_whole_payloads(sizes: list[int], cut: int) -> None:
    """With `collect` nothing is skipped, not even large messages."""
    payloads = [b"x" * size for size in sizes]
    stream = b"".join(frame(Opcode.BINARY, payload) for payload in payloads)
    collected: list[bytes] = []
    counter = FrameCounter()
    for start in range(0, len(stream), cut):
        counter.feed(stream[start : start + cut], collected)
    assert collected == payloads


def test_websocket_answers_pings_while_it_counts() -> None:
    """The agent takes pongs for acknowledgements, so they must carry the ping's bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        received: list[bytes] = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                connection.sendall(frame(Opcode.BINARY, b"a") + frame(Opcode.PING, b"12345678"))
                received.append(connection.recv(14, socket.MSG_WAITALL))
                connection.sendall(frame(Opcode.BINARY, MARKER))
                connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        client = WebSocket("127.0.0.1", server.getsockname()[1], "/", {}, timeout=10)
        try:
            count = client.count_until(MARKER, time.monotonic() + 10)
        finally:
            client.close()
            thread.join()
    assert received == [b"\x8a\x88\0\0\0\0" + b"12345678"]
    assert count.messages == 2
