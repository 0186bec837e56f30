"""Accepts the connections of one port, and keeps probes answered when descriptors run out.

asyncio's own server then pauses for a second and logs each attempt.
"""

import asyncio
import logging
import resource
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from functools import partial

from enterprise_gateway.services.connection_quota import ConnectionQuota
from enterprise_gateway.web.connections import protocol
from enterprise_gateway.web.connections.protocol import Connection

MAX_IDLE_PER_ADDRESS = 256
RESERVED_DESCRIPTORS = 64
"""Descriptors that are kept for probes, and for files and connections of the gateway itself."""

_BACKLOG = 1024
_BATCH = 64
"""How many connections are accepted in one step of the event loop."""
_PAUSE_SECONDS = 0.05
_LAST_OPENING_SECONDS = 0.5
_REPORT_SECONDS = 60.0

MakeConnection = Callable[[ConnectionQuota[Connection]], Connection]

_log = logging.getLogger(__name__)


class Listener:
    """Listens on bound sockets, which it owns and closes.

    A connection on which no request is served is idle. Idle connections may have half of the
    descriptors, those of one address a quarter of that; the oldest is closed for a new one. A new
    descriptor has the lowest free number (POSIX, section 2.14), so a high number means that all
    below are in use. The oldest idle connection is then closed for each new one, and a connection
    with a reserved descriptor is answered only if it is a probe.

    Raises:
        OSError: Another program listens already.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make_connection: MakeConnection,
        *,
        context: ssl.SSLContext | None,
        is_proxy: Callable[[str], bool],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        self._make_connection = make_connection
        self._context = context
        self._is_proxy = is_proxy
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            limit = sys.maxsize
        reserve = min(RESERVED_DESCRIPTORS, limit // 8)
        self._reserved_from = limit - reserve
        self._scarce_from = self._reserved_from - reserve
        total = max(4, self._scarce_from // 2)
        self._idle: ConnectionQuota[Connection] = ConnectionQuota(
            min(MAX_IDLE_PER_ADDRESS, total // 4), total
        )
        self._opening: set[asyncio.Task[None]] = set()
        self._reported = -_REPORT_SECONDS
        try:
            for listener in self._sockets:
                listener.setblocking(False)  # noqa: FBT003 - the socket API takes it so
                listener.listen(_BACKLOG)
        except OSError:
            for listener in self._sockets:
                listener.close()
            raise
        for listener in self._sockets:
            self._watch(listener)

    @property
    def port(self) -> int:
        """The port of the first socket."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop accepting. Open connections continue; unfinished TLS handshakes are cancelled."""
        for listener in self._sockets:
            self._loop.remove_reader(listener)
            listener.close()
        if self._opening:
            _, unfinished = await asyncio.wait(self._opening, timeout=_LAST_OPENING_SECONDS)
            for task in unfinished:
                task.cancel()

    def _watch(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                connection, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._report(str(exc))
                self._drop(self._idle.evict())
                # the event loop would call again at once
                self._loop.remove_reader(listener)
                self._loop.call_later(_PAUSE_SECONDS, self._watch, listener)
                return
            self._admit(connection, str(peer[0]))

    def _admit(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)  # noqa: FBT003 - likewise
        connection = self._make_connection(self._idle)
        connection.address = "" if self._is_proxy(address) else address
        connection.is_reserve = sock.fileno() >= self._reserved_from
        if sock.fileno() >= self._scarce_from:
            self._drop(self._idle.evict())
            self._report(f"{sock.fileno()} are in use")
        self._drop(self._idle.admit(connection, connection.address))
        task = self._loop.create_task(self._open(connection, sock))
        connection.opening = task
        self._opening.add(task)
        # not in the task, which runs no code if it is cancelled before its first step
        task.add_done_callback(partial(self._end_opening, connection, sock))

    async def _open(self, connection: Connection, sock: socket.socket) -> None:
        await self._loop.connect_accepted_socket(
            lambda: connection,
            sock,
            ssl=self._context,
            ssl_handshake_timeout=protocol.FIRST_REQUEST_SECONDS if self._context else None,
        )

    def _end_opening(
        self, connection: Connection, sock: socket.socket, task: asyncio.Task[None]
    ) -> None:
        self._opening.discard(task)
        connection.opening = None
        if task.cancelled() or task.exception() is not None:
            # no TLS, a peer that has gone, or a connection that was dropped for another
            self._idle.release(connection)
            sock.close()

    @staticmethod
    def _drop(connection: Connection | None) -> None:
        if connection is not None:
            connection.drop()

    def _report(self, cause: str) -> None:
        now = self._loop.time()
        if now - self._reported < _REPORT_SECONDS:
            return
        self._reported = now
        _log.warning(
            "File descriptors are running out (%s). The gateway closes idle connections and keeps "
            "the last descriptors for probes. Raise the limit of open files (LimitNOFILE=, "
            "--ulimit nofile=).",
            cause,
        )
