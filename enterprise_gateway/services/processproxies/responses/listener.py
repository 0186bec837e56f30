"""The response listener, to which kernel agents report that they are ready, or why they are not.

It has one port, TLS with a key of this process, and reads and writes one line a connection. Every
container that can reach the port may connect, so a peer must not cost more than `MAX_REPORT_BYTES`,
a few seconds and its own place in the quota, and only a peer with a kernel's token can settle that
kernel's launch.

The launchers in Enterprise Gateway's images report to the same port without TLS
(`launcher_payload`). Such a report does not settle a launch; it is kept with its sender's address.
"""

import asyncio
import functools
import logging
import socket
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enterprise_gateway.errors import ConfigurationError, ConflictError
from enterprise_gateway.services.connection_quota import ConnectionQuota
from enterprise_gateway.services.processproxies.responses.identity import (
    ListenerIdentity,
    create_identity,
)
from enterprise_gateway.services.processproxies.responses.launcher_reports import LauncherReports
from enterprise_gateway.services.processproxies.responses.report import (
    ACCEPTED,
    MAX_REPORT_BYTES,
    REJECTED,
    MalformedReportError,
    Report,
    decode_report,
)
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings

if TYPE_CHECKING:
    from enterprise_gateway.services.processproxies.responses.launcher_payload import ConnectionInfo

MAX_CONNECTIONS_PER_ADDRESS = 64
MAX_CONNECTIONS = 512
_BACKLOG = 1024
_REMEMBERED_REPORTS = 4096
_TLS_HANDSHAKE = b"\x16"
"""The first byte of a TLS connection (RFC 8446, section 5.1), which base64 never contains."""
_CHUNK_BYTES = 65536
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - EG_RESPONSE_ADDR_ANY asks for it

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResponseEndpoint:
    """`RESPONSE_ADDRESS` and `PUBLIC_KEY` of the wire contract."""

    address: str
    public_key: str


@dataclass(frozen=True, slots=True)
class _Waiter:
    tokens: frozenset[str] = field(repr=False)
    report: asyncio.Future[Report]
    launcher_reports: LauncherReports | None


class ResponseListener:
    """Listens on each local address that was given to some kernel."""

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._identity: asyncio.Task[ListenerIdentity] | None = None
        self._binding = asyncio.Lock()
        self._ports: dict[str, int] = {}
        self._tasks = BackgroundTasks()
        self._connections: ConnectionQuota[asyncio.Task[None]] = ConnectionQuota(
            MAX_CONNECTIONS_PER_ADDRESS, MAX_CONNECTIONS
        )
        self._waiters: dict[str, _Waiter] = {}
        self._accepted: OrderedDict[str, Report] = OrderedDict()

    def start(self) -> None:
        """Begin to create the key ahead of the first launch."""
        if self._identity is None or (self._identity.done() and not _succeeded(self._identity)):
            self._identity = self._tasks.begin(create_identity())

    async def close(self) -> None:
        """Stop listening. Launches that wait for a report continue until their own deadlines."""
        await self._tasks.cancel()
        self._ports.clear()
        self._identity = None

    async def open(self, ip: str) -> ResponseEndpoint:
        """Listen on a local address, unless that is done already, and return what kernels need.

        Raises:
            ConfigurationError: the address is not one of this host, or all ports are taken.
            UnavailableError: the key could not be created.
        """
        self.start()
        assert self._identity is not None  # noqa: S101 - start() has just set it
        identity = await asyncio.shield(self._identity)
        listen_ip = _ANY_ADDRESS if self._settings.current.response.addr_any else ip
        async with self._binding:
            if listen_ip not in self._ports:
                listener = self._bind(listen_ip)
                self._ports[listen_ip] = listener.getsockname()[1]
                self._tasks.begin(self._accept(listener, identity))
        return ResponseEndpoint(f"{ip}:{self._ports[listen_ip]}", identity.public_key)

    @contextmanager
    def expect(
        self,
        kernel_id: str,
        tokens: frozenset[str],
        launcher_reports: LauncherReports | None = None,
    ) -> Iterator[asyncio.Future[Report]]:
        """Wait for a kernel's report: the first one that carries a token settles the future.

        Args:
            kernel_id: the kernel.
            tokens: its agent has one of them.
            launcher_reports: receives reports without TLS, unless None.

        Raises:
            ConflictError: another launch of the same kernel is under way.
        """
        if kernel_id in self._waiters:
            raise ConflictError(f"Kernel {kernel_id} is being started already.")
        self._accepted.pop(kernel_id, None)
        waiter = _Waiter(tokens, asyncio.get_running_loop().create_future(), launcher_reports)
        self._waiters[kernel_id] = waiter
        try:
            yield waiter.report
        finally:
            del self._waiters[kernel_id]
            waiter.report.cancel()

    def _bind(self, ip: str) -> socket.socket:
        settings = self._settings.current.response
        failure: OSError | None = None
        for port in range(settings.port, settings.port + settings.port_retries + 1):
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setblocking(False)  # noqa: FBT003 - the socket API takes it so
                listener.bind((ip, port))
                listener.listen(_BACKLOG)
            except OSError as exc:
                listener.close()
                failure = exc
            else:
                _log.info("Listening for kernel responses on %s:%d", ip, listener.getsockname()[1])
                return listener
        raise ConfigurationError(
            f"Cannot listen for kernel responses on {ip}, ports {settings.port} to "
            f"{settings.port + settings.port_retries}: {failure}. Set EG_RESPONSE_PORT to a free "
            "port, or EG_RESPONSE_IP to an address of this host (with EG_RESPONSE_ADDR_ANY=True if "
            "kernels reach it through another machine)."
        ) from failure

    async def _accept(self, listener: socket.socket, identity: ListenerIdentity) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    connection, peer = await loop.sock_accept(listener)
                except OSError as exc:
                    # Out of file descriptors, or the peer has gone: keep listening.
                    _log.warning("A kernel response could not be accepted: %s", exc)
                    await asyncio.sleep(0.05)
                    continue
                task = self._tasks.begin(self._serve(connection, peer[0], identity))
                evicted = self._connections.admit(task, peer[0])
                if evicted is not None:
                    evicted.cancel()
                task.add_done_callback(self._connections.release)
                # Not in the task itself, which runs no code if it is cancelled before its first
                # step.
                task.add_done_callback(functools.partial(_close, connection))

    async def _serve(
        self, connection: socket.socket, address: str, identity: ListenerIdentity
    ) -> None:
        """Serve one connection within its deadline."""
        try:
            async with asyncio.timeout(self._settings.current.delays.report_seconds):
                if await _first_byte(connection) == _TLS_HANDSHAKE:
                    await self._serve_agent(connection, identity)
                else:
                    await self._serve_launcher(connection, address, identity)
        # ValueError: no end of the line or payload within the size limit
        except (OSError, ValueError, MalformedReportError) as exc:
            _log.debug("Not a kernel response: %s", exc)

    async def _serve_agent(self, connection: socket.socket, identity: ListenerIdentity) -> None:
        """Read a line and answer it."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_REPORT_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=identity.context
        )
        try:
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            writer.write(self._judge(await reader.readline()))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        finally:
            transport.abort()

    async def _serve_launcher(
        self, connection: socket.socket, address: str, identity: ListenerIdentity
    ) -> None:
        """Read everything that a peer sends, and keep it for the launches under way.

        Nothing is decoded here, so a peer cannot learn anything from the time that it takes.
        """
        if not self._settings.current.response.accept_eg_payloads:
            self._refuse_launcher(address)
            return
        raw = await _receive_all(connection)
        connection.close()
        if not raw:
            return
        for kernel_id, waiter in self._waiters.items():
            if waiter.launcher_reports is not None and not waiter.report.done():
                waiter.launcher_reports.add(
                    address,
                    functools.partial(_decode_payload, raw, identity.private_pem, kernel_id),
                )

    def _refuse_launcher(self, address: str) -> None:
        """Say once in each launch that launchers are not heard."""
        for kernel_id, waiter in self._waiters.items():
            reports = waiter.launcher_reports
            if reports is not None and not reports.is_refused:
                reports.is_refused = True
                _log.warning(
                    "A report without TLS from %s, while kernel %s is started, was not read: "
                    "EG_ACCEPT_EG_PAYLOADS is off, so kernels whose images have Jupyter Enterprise "
                    "Gateway's launcher cannot be started.",
                    address,
                    kernel_id,
                )

    def _judge(self, line: bytes) -> bytes:
        report = decode_report(line)
        waiter = self._waiters.get(report.kernel_id)
        if waiter is not None and report.is_from(waiter.tokens) and not waiter.report.cancelled():
            if not waiter.report.done():
                waiter.report.set_result(report)
                self._remember(report)
            return ACCEPTED
        # An agent that has not received the answer reports again, and must get the same answer.
        earlier = self._accepted.get(report.kernel_id)
        if earlier is not None and report.is_from(frozenset({earlier.token})):
            return ACCEPTED
        _log.info(
            "Rejected a response for kernel %.36s, which is not being started here",
            report.kernel_id,
        )
        return REJECTED

    def _remember(self, report: Report) -> None:
        self._accepted[report.kernel_id] = report
        if len(self._accepted) > _REMEMBERED_REPORTS:
            self._accepted.popitem(last=False)


def _close(connection: socket.socket, _: asyncio.Task[None]) -> None:
    connection.close()


async def _first_byte(connection: socket.socket) -> bytes:
    """Return a peer's first byte without consuming it, nothing if the peer closes instead."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


async def _receive_all(connection: socket.socket) -> bytes:
    """Return everything that a peer sends until it closes.

    Raises:
        ValueError: it exceeds the size of a report.
    """
    loop = asyncio.get_running_loop()
    received = bytearray()
    while chunk := await loop.sock_recv(connection, _CHUNK_BYTES):
        received += chunk
        if len(received) > MAX_REPORT_BYTES:
            raise ValueError("the payload is too large")
    return bytes(received)


def _decode_payload(raw: bytes, private_pem: bytes, kernel_id: str) -> "ConnectionInfo | None":
    """Decode a launcher's payload for a kernel, None if it is not one. Call it in a thread."""
    # Few gateways need the ciphers, and importing them takes longer than using them.
    from enterprise_gateway.services.processproxies.responses.launcher_payload import (  # noqa: PLC0415
        LauncherPayloadError,
        decode_payload,
    )

    with suppress(LauncherPayloadError):
        return decode_payload(raw, private_pem, kernel_id)
    return None


def _succeeded(task: asyncio.Task[ListenerIdentity]) -> bool:
    return not task.cancelled() and task.exception() is None
