"""The WebSocket client of tests and benchmarks, whatever the cuts of the stream."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from jupyter_wire.frames import (
    SEARCHED_BYTES,
    FrameReader,
    Opcode,
    accept_of,
    client_frame,
    server_frame,
)
from jupyter_wire.websocket import WebSocket, WebSocketClosedError

MARKER = b"the end"
DEADLINE = 60.0


SIZES = st.lists(st.sampled_from([0, 1, 125, 126, 65535, SEARCHED_BYTES + 1]), max_size=6)
CUTS = st.sampled_from([11, 1000, 65536, 1_000_000])
"""Small ones cut through headers."""


@settings(deadline=None)  # other tests share the machine
@given(sizes=SIZES, cut=CUTS)
def test_reader_counts_messages_and_finds_the_marker(sizes: list[int], cut: int) -> None:
    """Messages, bytes and pings are right, and the marker is found in the piece that ends it."""
    stream = b"".join(
        server_frame(b"x" * size, Opcode.BINARY) + server_frame(b"12345678", Opcode.PING)
        for size in sizes
    )
    stream += server_frame(MARKER, Opcode.TEXT)
    reader = FrameReader()
    pieces = [stream[start : start + cut] for start in range(0, len(stream), cut)]
    found = [MARKER in reader.feed(piece) for piece in pieces]
    assert found == [False] * (len(pieces) - 1) + [True]
    assert reader.messages == len(sizes) + 1
    assert reader.payload_bytes == sum(sizes) + len(MARKER)
    assert reader.pings == [b"12345678"] * len(sizes)


@settings(deadline=None)  # other tests share the machine
@given(sizes=SIZES, cut=CUTS)
def test_reader_collects_whole_payloads(sizes: list[int], cut: int) -> None:
    """With `collect` nothing is skipped, not even large messages."""
    payloads = [b"x" * size for size in sizes]
    stream = b"".join(server_frame(payload, Opcode.BINARY) for payload in payloads)
    collected: list[tuple[int, bytes]] = []
    reader = FrameReader()
    for start in range(0, len(stream), cut):
        reader.feed(stream[start : start + cut], collected)
    assert collected == [(Opcode.BINARY, payload) for payload in payloads]


@settings(deadline=None)  # other tests share the machine
@given(payload=st.binary(max_size=200), mask=st.binary(min_size=4, max_size=4))
def test_masked_frame_is_read_by_another_library(payload: bytes, mask: bytes) -> None:
    """Wsproto as the server reads what the client sends."""
    protocol = FrameProtocol(client=False, extensions=[])
    protocol.receive_bytes(client_frame(payload, Opcode.BINARY, mask))
    (read,) = protocol.received_frames()
    assert bytes(read.payload) == payload


def test_fragments_are_one_message() -> None:
    """It has the opcode of its first fragment."""
    first = bytes([Opcode.TEXT]) + server_frame(b"on", Opcode.TEXT)[1:]
    last = server_frame(b"ce", Opcode.CONTINUATION)
    collected: list[tuple[int, bytes]] = []
    reader = FrameReader()
    reader.feed(first + server_frame(b"", Opcode.PING) + last, collected)
    assert collected == [(Opcode.TEXT, b"once")]
    assert reader.messages == 1


@contextmanager
def serving(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one WebSocket in a thread; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                head = connection.recv(65536).decode()
                key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
                lines = (
                    "HTTP/1.1 101 Switching Protocols",
                    f"Sec-WebSocket-Accept: {accept_of(key)}",
                    "Sec-WebSocket-Protocol: v1",
                )
                connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
                behave(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            thread.join(DEADLINE)


def test_websocket_answers_pings_while_it_counts() -> None:
    """The agent takes pongs for acknowledgements, so they must carry the ping's bytes."""
    received: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        connection.sendall(
            server_frame(b"a", Opcode.BINARY) + server_frame(b"12345678", Opcode.PING)
        )
        received.append(connection.recv(14, socket.MSG_WAITALL))
        connection.sendall(server_frame(MARKER, Opcode.BINARY))
        connection.recv(1)

    with serving(behave) as port:
        client = WebSocket("127.0.0.1", port, "/", {}, timeout=DEADLINE)
        assert client.subprotocol == "v1"
        count = client.count_until(MARKER, time.monotonic() + DEADLINE)
        client.abort()
        client.close()
    assert received == [b"\x8a\x88\0\0\0\0" + b"12345678"]
    assert count.messages == 2


def test_messages_before_a_close_frame_are_received() -> None:
    """The end is told after them, with its code, and the close frame is answered."""
    received: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        code = (1001).to_bytes(2, "big")
        connection.sendall(server_frame(b"last", Opcode.TEXT) + server_frame(code, Opcode.CLOSE))
        received.append(connection.recv(8, socket.MSG_WAITALL))

    with serving(behave) as port:
        client = WebSocket("127.0.0.1", port, "/", {}, timeout=DEADLINE)
        deadline = time.monotonic() + DEADLINE
        assert client.receive(deadline) == (Opcode.TEXT, b"last")
        with pytest.raises(WebSocketClosedError, match="1001"):
            client.receive(deadline)
        client.close()
    assert received[0][:2] == b"\x88\x82"


def test_close_waits_for_the_close_frame_of_the_server() -> None:
    """What the server still sends is read, so that it is not reset under a write."""

    def behave(connection: socket.socket) -> None:
        assert connection.recv(8, socket.MSG_WAITALL)[:2] == b"\x88\x82"
        connection.sendall(server_frame(b"x" * 100_000, Opcode.BINARY))
        connection.sendall(server_frame(b"", Opcode.CLOSE))
        assert connection.recv(1) == b""

    with serving(behave) as port:
        client = WebSocket("127.0.0.1", port, "/", {}, timeout=DEADLINE, is_masked=True)
        client.close()
        assert client.close_code == 0


def test_refused_upgrade_shows_the_answer() -> None:
    """So that a failed test says why."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(WebSocketClosedError, match="403 Forbidden"):
            WebSocket("127.0.0.1", server.getsockname()[1], "/", {}, timeout=DEADLINE)
        thread.join(DEADLINE)
