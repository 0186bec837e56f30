"""The web layer with a handful of routes, on a real socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from enterprise_gateway.errors import ConflictError, UnavailableError
from enterprise_gateway.services.users import USER
from enterprise_gateway.settings import (
    AccessSettings,
    IdentitySettings,
    LiveSettings,
    ServerSettings,
    Settings,
)
from enterprise_gateway.web.access.authorization import Authorizer
from enterprise_gateway.web.server import IDENTITIES, make_application, serve

TOKEN = "correct-token"
ANSWER_DEADLINE = 60.0


class Served:
    """A server, and what its handlers saw."""

    def __init__(self, live: LiveSettings, port: int) -> None:
        self.live = live
        self.port = port
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.revoked: list[str] = []
        self.finishing = asyncio.Event()
        """Set, `/waiting` answers."""

    @property
    def url(self) -> str:
        """The server's root."""
        scheme = "https" if self.live.current.server.certfile else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    async def ask(self, path: str, method: str = "GET", **options: Any) -> aiohttp.ClientResponse:
        """Send one request on a connection of its own; the answer's body is read."""
        timeout = aiohttp.ClientTimeout(ANSWER_DEADLINE)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, self.url + path, **options) as response,
        ):
            await response.read()
            return response

    async def send(self, raw: bytes) -> bytes:
        """Send bytes and return everything that comes back until the server closes.

        If the server has closed before it could read them, the connection is reset.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        received = bytearray()
        try:
            with contextlib.suppress(ConnectionError):
                writer.write(raw)
                await writer.drain()
                async with asyncio.timeout(ANSWER_DEADLINE):
                    while data := await reader.read(65536):
                        received += data
        finally:
            writer.close()
        return bytes(received)


def read_error(raw: bytes) -> tuple[int, dict[str, str]]:
    """Split a raw answer into status and JSON body."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@asynccontextmanager
async def serve_routes(
    server: ServerSettings | None = None,
    access: AccessSettings | None = None,
    authorizer: Authorizer | None = None,
    identity: IdentitySettings | None = None,
) -> AsyncIterator[Served]:
    """Serve the routes of `make_routes`, by default on any free port with a token."""
    live = LiveSettings(
        Settings(
            server=server or ServerSettings(port=0),
            access=access or AccessSettings(auth_token=TOKEN),
            identity=identity or IdentitySettings(),
        )
    )
    served = Served(live, 0)
    app = make_application(live, make_routes(served), authorizer)
    app[IDENTITIES].revocations.subscribe(served.revoked.append)
    async with serve(app, live) as served.port:
        yield served


def make_routes(served: Served) -> list[web.RouteDef]:
    """Routes like the services', each showing one thing."""

    async def plain(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "body": len(await request.read()),
                "remote": request.remote,
                "scheme": request.scheme,
                "user": request[USER].username,
                "groups": sorted(request[USER].groups),
                "scopes": sorted(request[USER].scopes),
                "credential": request[USER].credential,
                "id": request.match_info.get("kernel_id"),
            }
        )

    async def conflict(_request: web.Request) -> web.Response:
        raise ConflictError("The kernel id is taken.")

    async def unavailable(_request: web.Request) -> web.Response:
        raise UnavailableError("The engine does not answer.", retry_after=7)

    async def broken(_request: web.Request) -> web.Response:
        secret = "not-for-clients"
        raise RuntimeError(secret)

    async def waiting(_request: web.Request) -> web.Response:
        served.started.set()
        try:
            await served.finishing.wait()
        except asyncio.CancelledError:
            served.cancelled.set()
            raise
        return web.Response()

    async def channels(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close()
        return socket

    return [
        web.get("/api", plain),
        web.get("/healthz", plain),
        web.get("/api/kernels", plain),
        web.post("/api/kernels", plain),
        web.get("/api/kernels/{kernel_id}", plain),
        web.get("/api/kernels/{kernel_id}/channels", channels),
        web.get("/api/kernelspecs", plain),
        web.get("/api/me", plain),
        web.get("/api/status", plain),
        web.get("/metrics", plain),
        web.get("/conflict", conflict),
        web.get("/unavailable", unavailable),
        web.get("/broken", broken),
        web.get("/waiting", waiting),
    ]
