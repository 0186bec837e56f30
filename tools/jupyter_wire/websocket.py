"""A blocking WebSocket client.

Pings are answered, as every stock client does: the agent takes pongs for acknowledgements.
"""

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from jupyter_wire.frames import (
    NO_MASK,
    Data,
    FrameReader,
    Opcode,
    accept_of,
    client_frame,
    make_key,
    upgrade_request,
)

RECEIVE_BYTES = 1024 * 1024
CLOSE_SECONDS = 3.0
"""How long `WebSocket.close` waits for the server's close frame."""

_NORMAL_CLOSURE = (1000).to_bytes(2, "big")


class WebSocketClosedError(ConnectionError):
    """The server closed the connection, or answered with something that is not a WebSocket."""


@dataclass(frozen=True)
class Count:
    """The messages that `WebSocket.count_until` read, and the time it took."""

    messages: int
    payload_bytes: int
    seconds: float


class WebSocket:
    """One connection. One thread may read while another writes; every wait has a deadline.

    Attributes:
        subprotocol: the one that the server chose, "" for none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        target: str,
        headers: Mapping[str, str],
        timeout: float,
        *,
        is_masked: bool = False,
    ) -> None:
        """Connect.

        Args:
            host: name or address of the server.
            port: its port.
            target: path and query.
            headers: of the request, besides those of every WebSocket.
            timeout: seconds that connecting, sending or a piece of the handshake may take.
            is_masked: whether frames get a random masking key, as the RFC asks of clients that
                run foreign code, instead of one that costs nothing.

        Raises:
            WebSocketClosedError: the server refused; the text is its answer.
        """
        self.subprotocol = ""
        self._reader = FrameReader()
        self._received: deque[Data] = deque()
        self._is_masked = is_masked
        self._timeout = timeout
        self._sending = threading.Lock()
        self._has_sent_close = False
        self._socket = socket.create_connection((host, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._upgrade(host, port, target, headers)
        except BaseException:
            self._socket.close()
            raise

    def _upgrade(self, host: str, port: int, target: str, headers: Mapping[str, str]) -> None:
        key = make_key()
        self._socket.sendall(upgrade_request(host, port, target, headers, key))
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise WebSocketClosedError(answer.decode(errors="replace"))
            answer += data
        head, _, rest = answer.partition(b"\r\n\r\n")
        status, *lines = head.decode(errors="replace").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in map(_split, lines)}
        if " 101 " not in status or fields.get("sec-websocket-accept") != accept_of(key):
            raise WebSocketClosedError(answer.decode(errors="replace"))
        self.subprotocol = fields.get("sec-websocket-protocol", "")
        self._reader.feed(rest, self._received)

    def send(self, payload: bytes, opcode: Opcode) -> None:
        """Send one message or control frame."""
        mask = os.urandom(4) if self._is_masked else NO_MASK
        frame = client_frame(payload, opcode, mask)
        with self._sending:
            self._socket.sendall(frame)

    def receive(self, deadline: float) -> Data:
        """Return the next message.

        Args:
            deadline: of `time.monotonic()`.

        Raises:
            TimeoutError: the deadline has passed.
            WebSocketClosedError: the server has closed the connection.
        """
        while not self._received:
            self._check_open()
            self._reader.feed(self._read(deadline), self._received)
            self._answer_control_frames()
        return self._received.popleft()

    def count_until(self, marker: bytes, deadline: float) -> Count:
        """Count messages until one holds `marker`.

        The clock starts with the first bytes: the time a kernel takes to get going does not count.
        """
        reader = self._reader
        early = [payload for _, payload in self._received]
        self._received.clear()
        messages = reader.messages - len(early)
        payload_bytes = reader.payload_bytes - sum(map(len, early))
        found = any(marker in payload for payload in early)
        data = b"" if early else self._read(deadline)
        started = time.perf_counter()
        while not found:
            found = marker in reader.feed(data)
            self._answer_control_frames()
            if not found:
                self._check_open()
                data = self._read(deadline)
        seconds = time.perf_counter() - started
        return Count(reader.messages - messages, reader.payload_bytes - payload_bytes, seconds)

    def _read(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no message before the deadline")
        self._socket.settimeout(left)
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise WebSocketClosedError("the server closed the connection")
        return data

    def _answer_control_frames(self) -> None:
        if not self._reader.pings and not self._reader.is_closed:
            return
        pings, self._reader.pings = self._reader.pings, []
        with contextlib.suppress(OSError):  # the next read tells that the connection is lost
            for payload in pings:
                self.send(payload, Opcode.PONG)
            if self._reader.is_closed:
                self._send_close()

    def _send_close(self) -> None:
        if not self._has_sent_close:
            self._has_sent_close = True
            self.send(_NORMAL_CLOSURE, Opcode.CLOSE)

    def _check_open(self) -> None:
        if self._reader.is_closed:
            raise WebSocketClosedError(f"the server closed the WebSocket ({self.close_code})")

    @property
    def close_code(self) -> int:
        """The status code of the server's close frame, 0 without one."""
        return self._reader.close_code

    def close(self) -> None:
        """Send a close frame and wait for the server's; messages that come before it are lost."""
        deadline = time.monotonic() + CLOSE_SECONDS
        with contextlib.suppress(OSError):
            self._send_close()
            while not self._reader.is_closed:
                self._reader.feed(self._read(deadline))
        self.abort()
        self._socket.close()

    def abort(self) -> None:
        """Cut the connection; a thread that reads from it is woken."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def _split(line: str) -> tuple[str, str, str]:
    return line.partition(":")
