"""A WebSocket client that costs next to nothing a message: it measures the server, not itself.

Frames are counted by their headers (RFC 6455 section 5.2); payloads are looked at only where they
may hold the text that the caller waits for. Pings are answered, as every stock client does: the
agent takes pongs for acknowledgements.
"""

import os
import socket
import struct
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

RECEIVE_BYTES = 1024 * 1024
SEARCHED_BYTES = 64 * 1024
"""Payloads above this size are skipped unread."""


class Opcode(IntEnum):
    """RFC 6455 section 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class WebSocketClosedError(Exception):
    """The server closed the connection, or said something that is not a WebSocket."""


@dataclass(frozen=True)
class Count:
    """What `WebSocket.count_until` saw, and how long it took."""

    messages: int
    payload_bytes: int
    seconds: float


class FrameCounter:
    """Counts the messages in a stream of unmasked frames.

    Attributes:
        messages: data messages seen to their end.
        payload_bytes: their size.
        pings: payloads of pings to be answered; the caller empties it.
        closed: whether a close frame came.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.payload_bytes = 0
        self.pings: list[bytes] = []
        self.closed = False
        self._pending = b""
        self._skip = 0

    def feed(  # noqa: C901, PLR0912 - split up it would cost a call a frame
        self, data: bytes, collect: list[bytes] | None = None
    ) -> bytes:
        """Take what came from the socket.

        Args:
            data: any cut of the stream.
            collect: gets the payload of every data frame; nothing is skipped then.

        Returns:
            The bytes of the complete frames that were not skipped, to search in.
        """
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            if skipped == len(data):
                return b""
            data = data[skipped:]
        if self._pending:
            data = self._pending + data
        position = 0
        size = len(data)
        messages = payload = 0
        frame = 0
        while size - position >= 2:
            frame = position
            first = data[position]
            length = data[position + 1]
            start = position + 2
            if length == 126:
                start += 2
                if start > size:
                    break
                length = (data[position + 2] << 8) | data[position + 3]
            elif length == 127:
                start += 8
                if start > size:
                    break
                length = int.from_bytes(data[position + 2 : start], "big")
            end = start + length
            if end > size and (length <= SEARCHED_BYTES or collect is not None):
                break
            if first == 0x82 or first == 0x81:  # noqa: PLR1714 - a set look-up costs twice as much, in the innermost loop
                messages += 1
                payload += length
                if collect is not None:
                    collect.append(data[start:end])
            else:
                messages += self._other(first, data[start:end])
                payload += length if first & 0x0F <= Opcode.BINARY else 0
            position = end
        self.messages += messages
        self.payload_bytes += payload
        if position > size:
            self._skip = position - size
            self._pending = b""
            return data[:frame]
        self._pending = data[position:]
        return data[:position]

    def _other(self, first: int, payload: bytes) -> int:
        opcode = first & 0x0F
        if opcode == Opcode.PING:
            self.pings.append(payload)
        elif opcode == Opcode.CLOSE:
            self.closed = True
        return int(opcode <= Opcode.BINARY and bool(first & 0x80))


def upgrade_request(host: str, port: int, target: str, headers: Mapping[str, str]) -> bytes:
    """The head that asks for a WebSocket (RFC 6455 section 4.1)."""
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {host}:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def client_frame(payload: bytes, opcode: Opcode) -> bytes:
    """One frame, masked with zeros, which is a valid mask and leaves the bytes alone."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
    return head + b"\0\0\0\0" + payload


class WebSocket:
    """One blocking connection. Every wait has a deadline."""

    def __init__(
        self, host: str, port: int, target: str, headers: dict[str, str], timeout: float
    ) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._counter = FrameCounter()
        self._received: list[bytes] = []
        try:
            self._upgrade(host, port, target, headers)
        except BaseException:
            self._socket.close()
            raise

    def _upgrade(self, host: str, port: int, target: str, headers: dict[str, str]) -> None:
        self._socket.sendall(upgrade_request(host, port, target, headers))
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise WebSocketClosedError(answer.decode(errors="replace"))
            answer += data
        head, _, rest = answer.partition(b"\r\n\r\n")
        if b" 101 " not in head.partition(b"\r\n")[0]:
            raise WebSocketClosedError(answer.decode(errors="replace"))
        self._counter.feed(rest, self._received)

    def send(self, payload: bytes, opcode: Opcode) -> None:
        """Send one frame."""
        self._socket.sendall(client_frame(payload, opcode))

    def receive(self, deadline: float) -> bytes:
        """Return the payload of the next message.

        Args:
            deadline: of `time.monotonic()`; TimeoutError past it.
        """
        while not self._received:
            self._counter.feed(self._read(deadline), self._received)
            self._answer_pings()
        return self._received.pop(0)

    def count_until(self, marker: bytes, deadline: float) -> Count:
        """Count messages until one holds `marker`.

        The clock starts with the first bytes: the time a kernel takes to get going does not count.
        """
        counter = self._counter
        early, self._received = self._received, []
        messages = counter.messages - len(early)
        payload_bytes = counter.payload_bytes - sum(map(len, early))
        found = any(marker in payload for payload in early)
        data = b"" if early else self._read(deadline)
        started = time.perf_counter()
        while not found:
            found = marker in counter.feed(data)
            self._answer_pings()
            if not found:
                data = self._read(deadline)
        seconds = time.perf_counter() - started
        return Count(counter.messages - messages, counter.payload_bytes - payload_bytes, seconds)

    def _read(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the measurement has passed")
        self._socket.settimeout(left)
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise WebSocketClosedError("the server closed the connection")
        return data

    def _answer_pings(self) -> None:
        pings, self._counter.pings = self._counter.pings, []
        for payload in pings:
            self.send(payload, Opcode.PONG)
        if self._counter.closed:
            raise WebSocketClosedError("the server closed the WebSocket")

    def close(self) -> None:
        """Cut the connection."""
        self._socket.close()
