"""The WebSocket end of a kernel agent as a bare TCP server, and the client end as bare bytes."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from enterprise_gateway.services.kernels.kernels import DeadKernel
from enterprise_gateway.services.kernels.ownership import Ownership
from enterprise_gateway.services.processproxies.contract import AgentEndpoint
from enterprise_gateway.services.processproxies.responses.certificate import make_certificate
from enterprise_gateway.settings import AccessSettings, LiveSettings, ServerSettings, Settings
from enterprise_gateway.web.channels.handlers import Channels
from enterprise_gateway.web.draining import RequestDrain
from enterprise_gateway.web.server import make_application, serve

ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: proof\r\n\r\n"
)
CLIENT_TOKEN = "clients-token"
BALANCER_SECRET = "balancers-secret"
DEADLINE = 60.0


class Stream:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read_head(self) -> bytes:
        """Read up to the end of an HTTP head."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def read(self, count: int) -> bytes:
        """Read exactly so many bytes."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readexactly(count)

    async def read_all(self) -> bytes:
        """Read until the other side has ended; a reset counts as an end."""
        received = bytearray()
        try:
            async with asyncio.timeout(DEADLINE):
                while data := await self.reader.read(65536):
                    received += data
        except ConnectionError:
            pass
        return bytes(received)

    async def write(self, data: bytes) -> None:
        """Write, and wait until it has left."""
        self.writer.write(data)
        async with asyncio.timeout(DEADLINE):
            await self.writer.drain()

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class RawAgent:
    """A TCP server whose every connection is served by what the test gives it.

    Attributes:
        requests: the upgrade requests it got.
        open: how many connections it has now.
        changes: how often the gateway noted that a WebSocket was opened or closed.
    """

    def __init__(self, behave: Callable[[Stream], Awaitable[None]]) -> None:
        self.requests: list[bytes] = []
        self.open = 0
        self.changes = 0
        self.endpoint = AgentEndpoint()
        self.token = "agents-token"
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._behave = behave
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, unix_path: str = "") -> None:
        """Begin to listen."""
        if unix_path:
            self._server = await asyncio.start_unix_server(self._serve, unix_path)
            self.endpoint = AgentEndpoint(unix_path=unix_path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            host, port = self._server.sockets[0].getsockname()
            self.endpoint = AgentEndpoint(host, port)

    def mark_changed(self) -> None:
        """Count what the gateway notes of its WebSockets."""
        self.changes += 1

    async def stop(self) -> None:
        """Stop listening and drop all connections."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        try:
            stream = Stream(reader, writer)
            self.requests.append(await stream.read_head())
            await self._behave(stream)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()


class OneAgent:
    """Stands for `Kernels`: every kernel has the same agent."""

    def __init__(self, agent: RawAgent) -> None:
        self._agent = agent
        self.failure: Callable[[], Exception] | None = None
        self.dead: DeadKernel | None = None

    async def find_dead(self, kernel_id: str, seconds: float = 0.0) -> DeadKernel | None:
        """Return what the test says of a death."""
        del kernel_id, seconds
        return self.dead

    async def agent(self, kernel_id: str) -> Any:
        """Return the agent, or fail as the test wants."""
        del kernel_id
        if self.failure is not None:
            raise self.failure()
        return self._agent


class Spliced:
    """A gateway that does nothing but channels, in front of a raw agent."""

    def __init__(self, agent: RawAgent, kernels: OneAgent, app: web.Application, port: int) -> None:
        self.agent = agent
        self.kernels = kernels
        self.app = app
        self.port = port
        self.client_tls: ssl.SSLContext | None = None

    async def dial(self, *, early: bytes = b"", query: str = "", headers: bytes = b"") -> Stream:
        """Connect, and send an upgrade request with bytes right behind it."""
        stream = Stream(
            *await asyncio.open_connection(
                "127.0.0.1", self.port, limit=1 << 24, ssl=self.client_tls
            )
        )
        await stream.write(
            b"GET /api/kernels/k/channels" + query.encode() + b" HTTP/1.1\r\nHost: gateway\r\n"
            b"Authorization: token "
            + CLIENT_TOKEN.encode()
            + b"\r\n"
            + headers
            + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: k\r\n\r\n"
            + early
        )
        return stream

    async def open(self, *, early: bytes = b"") -> Stream:
        """Connect, and read the answer of the handshake."""
        stream = await self.dial(early=early)
        assert await stream.read_head() == ACCEPTED
        return stream


@asynccontextmanager
async def serve_channels(
    behave: Callable[[Stream], Awaitable[None]],
    unix_path: str = "",
    certificate: Path | None = None,
) -> AsyncIterator[Spliced]:
    """Serve channels to a raw agent that behaves so after it has read the upgrade request.

    Args:
        behave: what the agent does with a connection.
        unix_path: where it listens; "": on a TCP port.
        certificate: a file with certificate and key for the gateway; None: no TLS.
    """
    agent = RawAgent(behave)
    await agent.start(unix_path)
    kernels = OneAgent(agent)
    channels = Channels(kernels, BALANCER_SECRET)  # type: ignore[arg-type] # it needs no more
    live = LiveSettings(
        Settings(
            server=ServerSettings(
                port=0,
                port_retries=0,
                certfile=str(certificate or ""),
                keyfile=str(certificate or ""),
            ),
            access=AccessSettings(auth_token=CLIENT_TOKEN),
        )
    )
    drain = RequestDrain()
    drain.closers.append(channels.close)
    ownership = Ownership(live, None)  # type: ignore[arg-type] # the shared token opens all kernels
    app = make_application(live, channels.routes(), drain=drain, ownership=ownership)
    try:
        async with serve(app, live) as port:
            spliced = Spliced(agent, kernels, app, port)
            if certificate is not None:
                spliced.client_tls = ssl.create_default_context(cafile=str(certificate))
                spliced.client_tls.check_hostname = False
            yield spliced
    finally:
        await agent.stop()


def write_certificate(path: Path) -> Path:
    """Write a self-signed certificate and its key into one file."""
    path.write_text(make_certificate()["pem"])
    return path
