"""The response listener: where kernel agents say that they are ready, or why they are not.

One port, TLS with a key of this process, one line in and one line out. Anybody who can reach the
port may connect, so nothing that a peer does may cost more than `MAX_REPORT_BYTES`,
`CONNECTION_DEADLINE` and its own place in the quota, and only the holder of a kernel's token can
settle that kernel's launch.

The launchers in Enterprise Gateway's images, which are no agents, report to the same port without
TLS (`launcher_payload`). Such a report settles nothing; it is kept with its sender's address for
whoever launches that kernel.
"""

import asyncio
import functools
import json
import logging
import os
import socket
import ssl
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enterprise_gateway.errors import ConfigurationError, ConflictError, UnavailableError
from enterprise_gateway.services.processproxies.connection_quota import ConnectionQuota
from enterprise_gateway.services.processproxies.launcher_reports import LauncherReports
from enterprise_gateway.services.processproxies.reports import (
    ACCEPTED,
    MAX_REPORT_BYTES,
    REJECTED,
    MalformedReportError,
    Report,
    decode_report,
)
from enterprise_gateway.settings import LiveSettings

if TYPE_CHECKING:
    from enterprise_gateway.services.processproxies.launcher_payload import ConnectionInfo

CONNECTION_DEADLINE = 5.0
"""Seconds from accepting a connection to its end, whatever the peer does."""
MAX_CONNECTIONS_PER_ADDRESS = 64
MAX_CONNECTIONS = 512
_BACKLOG = 1024
_CERTIFICATE_DEADLINE = 60.0
_REMEMBERED_REPORTS = 4096
_TLS_HANDSHAKE = b"\x16"
"""The first byte of every TLS connection (RFC 8446, section 5.1), and of no base64."""
_CHUNK_BYTES = 65536
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - EG_RESPONSE_ADDR_ANY asks for it

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResponseEndpoint:
    """What a kernel has to be told: `RESPONSE_ADDRESS` and `PUBLIC_KEY`."""

    address: str
    public_key: str


@dataclass(frozen=True, slots=True)
class _Identity:
    public_key: str
    context: ssl.SSLContext
    private_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Waiter:
    token: str = field(repr=False)
    report: asyncio.Future[Report]
    launcher_reports: LauncherReports | None


class ResponseListener:
    """Listens on each local address that some kernel was told, from the first time on."""

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._identity: asyncio.Task[_Identity] | None = None
        self._binding = asyncio.Lock()
        self._ports: dict[str, int] = {}
        self._acceptors: set[asyncio.Task[None]] = set()
        self._connections: ConnectionQuota[asyncio.Task[None]] = ConnectionQuota(
            MAX_CONNECTIONS_PER_ADDRESS, MAX_CONNECTIONS
        )
        self._serving: set[asyncio.Task[None]] = set()
        self._waiters: dict[str, _Waiter] = {}
        self._accepted: OrderedDict[str, Report] = OrderedDict()

    def start(self) -> None:
        """Begin to make the key, so that it is there when the first kernel is launched."""
        if self._identity is None or (self._identity.done() and not _succeeded(self._identity)):
            self._identity = asyncio.get_running_loop().create_task(_make_identity())

    async def close(self) -> None:
        """Stop listening; whoever still waits for a report keeps waiting until its own deadline."""
        tasks = [*self._acceptors, *self._serving, *([self._identity] if self._identity else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ports.clear()
        self._identity = None

    async def open(self, ip: str) -> ResponseEndpoint:
        """Listen on the local address `ip` and return what to tell kernels. Twice is fine.

        Raises:
            ConfigurationError: the address is not one of this host, or all ports are taken.
            UnavailableError: the key could not be made.
        """
        self.start()
        assert self._identity is not None  # noqa: S101 - start() has just set it
        identity = await asyncio.shield(self._identity)
        listen_ip = _ANY_ADDRESS if self._settings.current.response.addr_any else ip
        async with self._binding:
            if listen_ip not in self._ports:
                listener = self._bind(listen_ip)
                self._ports[listen_ip] = listener.getsockname()[1]
                self._keep(self._acceptors, asyncio.create_task(self._accept(listener, identity)))
        return ResponseEndpoint(f"{ip}:{self._ports[listen_ip]}", identity.public_key)

    @contextmanager
    def expect(
        self, kernel_id: str, token: str, launcher_reports: LauncherReports | None = None
    ) -> Iterator[asyncio.Future[Report]]:
        """Wait for a kernel's report: the first one that carries the token settles the future.

        Args:
            kernel_id: the kernel.
            token: its agent's.
            launcher_reports: takes what comes without TLS; None: nothing does.

        Raises:
            ConflictError: somebody waits for the same kernel already.
        """
        if kernel_id in self._waiters:
            raise ConflictError(f"Kernel {kernel_id} is being started already.")
        self._accepted.pop(kernel_id, None)
        waiter = _Waiter(token, asyncio.get_running_loop().create_future(), launcher_reports)
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

    async def _accept(self, listener: socket.socket, identity: _Identity) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    connection, peer = await loop.sock_accept(listener)
                except OSError as exc:
                    # Out of file descriptors, or a peer that was gone before it was accepted:
                    # neither ends the listener.
                    _log.warning("A kernel response could not be accepted: %s", exc)
                    await asyncio.sleep(0.05)
                    continue
                task = asyncio.create_task(self._serve(connection, peer[0], identity))
                evicted = self._connections.admit(task, peer[0])
                if evicted is not None:
                    evicted.cancel()
                self._keep(self._serving, task)
                task.add_done_callback(self._connections.release)
                # Here, not in the task: one that is cancelled before its first step runs no code of
                # its own.
                task.add_done_callback(functools.partial(_close, connection))

    async def _serve(self, connection: socket.socket, address: str, identity: _Identity) -> None:
        """Take one report. Ends within the deadline, whatever the peer does."""
        try:
            async with asyncio.timeout(CONNECTION_DEADLINE):
                if await _first_byte(connection) == _TLS_HANDSHAKE:
                    await self._serve_agent(connection, identity)
                else:
                    await self._serve_launcher(connection, address, identity)
        except (
            OSError,
            ValueError,
            MalformedReportError,
        ) as exc:  # ValueError: no line, or no end, within the limit
            _log.debug("Not a kernel response: %s", exc)

    async def _serve_agent(self, connection: socket.socket, identity: _Identity) -> None:
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
        self, connection: socket.socket, address: str, identity: _Identity
    ) -> None:
        """Read all that a peer sends, and let it go before anything is made of it.

        So it cannot tell what became of it, nor how long that took.
        """
        raw = await _receive_all(connection)
        connection.close()
        takers = {
            kernel_id: waiter.launcher_reports
            for kernel_id, waiter in self._waiters.items()
            if waiter.launcher_reports is not None and not waiter.report.done()
        }
        if not raw or not takers:
            return
        info = await asyncio.to_thread(_decode_payload, raw, identity.private_pem, [*takers])
        if info is None:
            _log.info("A response without TLS is not that of a kernel that is being started here")
            return
        _log.info("The launcher of kernel %s has reported", info.kernel_id)
        takers[info.kernel_id].put(address, info)

    def _judge(self, line: bytes) -> bytes:
        report = decode_report(line)
        waiter = self._waiters.get(report.kernel_id)
        if waiter is not None and report.is_from(waiter.token) and not waiter.report.cancelled():
            if not waiter.report.done():
                waiter.report.set_result(report)
                self._remember(report)
            return ACCEPTED
        # The answer to an accepted report may have been lost on its way: the agent asks again and
        # must hear the same.
        earlier = self._accepted.get(report.kernel_id)
        if earlier is not None and report.is_from(earlier.token):
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

    @staticmethod
    def _keep(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def _close(connection: socket.socket, _: asyncio.Task[None]) -> None:
    connection.close()


async def _first_byte(connection: socket.socket) -> bytes:
    """Return what a peer sends first without taking it; nothing if it closes instead."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


async def _receive_all(connection: socket.socket) -> bytes:
    """Return what a peer sends until it closes.

    Raises:
        ValueError: it is larger than a launcher's payload can be.
    """
    loop = asyncio.get_running_loop()
    received = bytearray()
    while chunk := await loop.sock_recv(connection, _CHUNK_BYTES):
        received += chunk
        if len(received) > MAX_REPORT_BYTES:
            raise ValueError("it has no end")
    return bytes(received)


def _decode_payload(
    raw: bytes, private_pem: bytes, kernel_ids: list[str]
) -> "ConnectionInfo | None":
    """Return what a launcher reports; None if it is no launcher. To be called in a thread."""
    # Few gateways ever need the ciphers, and importing them takes longer than using them.
    from enterprise_gateway.services.processproxies.launcher_payload import (  # noqa: PLC0415
        LauncherPayloadError,
        decode_payload,
    )

    with suppress(LauncherPayloadError):
        return decode_payload(raw, private_pem, kernel_ids)
    return None


def _succeeded(task: asyncio.Task[_Identity]) -> bool:
    return not task.cancelled() and task.exception() is None


async def _make_identity() -> _Identity:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "enterprise_gateway.services.processproxies.certificate",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_CERTIFICATE_DEADLINE):
            output, _ = await process.communicate()
        made = json.loads(output)
        pem = made["pem"].encode()
        return _Identity(made["public_key"], _server_context(pem), pem)
    except (TimeoutError, OSError, ValueError) as exc:
        raise UnavailableError("The key for kernel responses could not be made.") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _server_context(pem: bytes) -> ssl.SSLContext:
    """Return the context for a key that never touches a disk."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    descriptor = os.memfd_create("response-key")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
