"""A TCP connection to one socket of a kernel: connected again whenever it is lost.

The I/O shell around `protocol`. It reads from callbacks of the event loop, without a transport and
without a thread: one system call gets all that has arrived.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from itertools import islice
from typing import Callable, Deque, List, Optional, Sequence, Tuple

from kernel_agent.zmtp.protocol import SocketType, ZmtpConnection, ZmtpError, encode_message

READ_BYTES = 64 * 1024
"""Size of one read; the C library takes larger blocks from the system for each read anew."""
BATCH_BYTES = 2 * 1024 * 1024
"""Size from which on other events are handled before more is read."""
RECONNECT_SECONDS = 0.02
"""The agent connects before the kernel binds; a short interval shortens the start."""
WRITE_PIECES = 64
"""How many pieces one system call may take, far below IOV_MAX (writev(2))."""

_log = logging.getLogger(__name__)


class Connection:
    """One connection. It does nothing before `open`.

    Attributes:
        is_ready: whether the peer has completed the handshake.
    """

    def __init__(
        self,
        address: Tuple[str, int],
        socket_type: SocketType,
        identity: bytes,
        *,
        on_readable: Callable[[], object],
        on_writable: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            address: IP address and port.
            socket_type: of this side.
            identity: by which a ROUTER knows this side.
            on_readable: called while there is something to `receive`.
            on_writable: called when the handshake is complete, and when all was sent.
            on_lost: called when a connection ends whose handshake was complete.
        """
        self._address = address
        self._socket_type = socket_type
        self._identity = identity
        self._on_readable = on_readable
        self._on_writable = on_writable
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._sock: Optional[socket.socket] = None
        self._retry: Optional[asyncio.TimerHandle] = None
        self._zmtp = ZmtpConnection(socket_type, identity)
        self._unsent: Deque[memoryview] = deque()
        self._is_watched = True
        self._is_open = False
        self.is_ready = False

    @property
    def can_send(self) -> bool:
        """Whether the peer has taken all that was sent."""
        return self.is_ready and not self._unsent

    def open(self) -> None:
        """Connect, now and whenever the connection is lost, until `close`; once is enough."""
        if not self._is_open:
            self._is_open = True
            self._connect()

    def send(self, frames: Sequence[bytes]) -> None:
        """Send a message; only if `can_send`. What the peer does not take at once is kept."""
        self._write(encode_message(frames))

    def watch(self, *, is_watched: bool) -> None:
        """Call `on_readable`, or leave what arrives to the peer and the network."""
        if is_watched is self._is_watched:
            return
        self._is_watched = is_watched
        if self._sock is None:
            return
        if is_watched:
            self._loop.add_reader(self._sock.fileno(), self._on_readable)
        else:
            self._loop.remove_reader(self._sock.fileno())

    def receive(self) -> Tuple[List[List[bytes]], bool]:
        """Return the frames of each message that has arrived, and whether there may be more."""
        messages: List[List[bytes]] = []
        sock = self._sock
        size = 0
        while sock is not None and size < BATCH_BYTES:
            try:
                data = sock.recv(READ_BYTES)
                messages += self._zmtp.receive(data)
            except BlockingIOError:
                return messages, False
            except OSError:
                data = b""
            except ZmtpError as exc:
                _log.warning("giving up a connection to the kernel: %s", exc)
                self._is_open = False
                data = b""
            if not data:
                self._lose()
                return messages, False
            output = self._zmtp.take_output()
            if output:
                self._write([output])
            if not self.is_ready and self._zmtp.is_ready:
                self.is_ready = True
                self._on_writable()
            if len(data) < READ_BYTES:
                return messages, False
            size += len(data)
            sock = self._sock
        return messages, sock is not None

    def close(self) -> None:
        """End the connection; drop what the peer did not take."""
        if self._retry is not None:
            self._retry.cancel()
        self._disconnect()

    def _connect(self) -> None:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        try:
            self._sock = sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:  # no descriptor is free
            self._lose()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(self._address)
        self._loop.add_writer(sock.fileno(), self._on_connected, sock)

    def _on_connected(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._lose()
            return
        if self._is_watched:
            self._loop.add_reader(sock.fileno(), self._on_readable)
        self._write([self._zmtp.take_output()])

    def _write(self, pieces: Sequence[bytes]) -> None:
        was_empty = not self._unsent
        self._unsent.extend(map(memoryview, pieces))
        if was_empty:
            self._flush()
            if self._unsent and self._sock is not None:
                self._loop.add_writer(self._sock.fileno(), self._on_room)

    def _on_room(self) -> None:
        self._flush()
        if not self._unsent and self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
            if self.is_ready:
                self._on_writable()

    def _flush(self) -> None:
        unsent = self._unsent
        while unsent and self._sock is not None:
            try:
                sent = self._sock.sendmsg(islice(unsent, WRITE_PIECES))
            except BlockingIOError:
                return
            except OSError:
                self._lose()
                return
            while unsent and sent >= len(unsent[0]):
                sent -= len(unsent.popleft())
            if sent:
                unsent[0] = unsent[0][sent:]

    def _lose(self) -> None:
        was_ready = self.is_ready
        self._disconnect()
        if self._is_open:
            self._retry = self._loop.call_later(RECONNECT_SECONDS, self._connect)
        if was_ready:
            self._on_lost()

    def _disconnect(self) -> None:
        sock, self._sock = self._sock, None
        self.is_ready = False
        self._zmtp = ZmtpConnection(self._socket_type, self._identity)
        self._unsent.clear()
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
            sock.close()
