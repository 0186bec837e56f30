"""A gateway whose clients say in a header who they are: a double of authentication."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from enterprise_gateway.services.request_scope import set_client
from enterprise_gateway.services.users import SHARED, USER, Scope, User
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web import server
from enterprise_gateway.web.access.identity.token_document import (
    StoredToken,
    encode_tokens,
    new_token,
)
from enterprise_gateway.web.errors import Handler
from harness.gateways.service import TOKEN, Answer, Service

USER_HEADER = "X-Test-User"


def person(name: str, **details: Any) -> User:
    """Return a user with a credential of their own."""
    return User(name, credential=f"{name}-credential", **details)


USERS: Mapping[str, User] = {
    "owner": person("ann@example.org"),
    "other": person("bob"),
    "admin": person("adele", scopes=frozenset(Scope)),
    "server": person("jupyter", acts_for=frozenset({"ann@example.org"})),
    "reader": person("rita"),
    "writer": person("walt", groups=frozenset({"writers"})),
    "shared": SHARED,
}
"""By role; `owner` is whose kernel the tests use."""
OWNER = USERS["owner"].username
SHARES = [
    {"user": "rita", "access": "read"},
    {"group": "writers", "access": "write"},
]


def make_token(
    user: str,
    acts_for: tuple[str, ...] = (),
    scope: Scope = Scope.KERNELS,
    groups: tuple[str, ...] = (),
    **ids: int,
) -> tuple[str, StoredToken]:
    """Make a token of a user's, and its entry for a file of tokens; `ids` are uid and gid."""
    return new_token(
        user,
        created=datetime.now(UTC),
        expires=None,
        groups=groups,
        scopes=[scope],
        acts_for=acts_for,
        **ids,
    )


def know_users(live: LiveSettings, path: Path, entries: Iterable[StoredToken]) -> None:
    """Have the gateway of these settings know users by a file of tokens.

    They may start the kernels of python3, though these are local.
    """
    path.write_bytes(encode_tokens(entries))
    settings = live.current
    live.replace(
        replace(
            settings,
            identity=replace(settings.identity, user_tokens_file=str(path)),
            kernels=replace(settings.kernels, allowed_kernels=frozenset({"python3"})),
        )
    )


class Person:
    """A user's client of a gateway."""

    def __init__(self, service: Service, role: str) -> None:
        self.service = service
        self.headers = {USER_HEADER: role}
        self.sockets: list[aiohttp.ClientWebSocketResponse] = []

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """Make a request."""
        return await self.service.ask(method, path, headers=self.headers, **options)

    async def get(self, path: str) -> Any:
        """Return the JSON of a GET that must succeed."""
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer.raw
        return answer.body

    async def start_kernel(self, **env: str) -> str:
        """Start a kernel; returns its id."""
        answer = await self.ask("POST", "/api/kernels", json={"env": env})
        assert answer.status == 201, answer.raw
        return str(answer.body["id"])

    async def connect(
        self, kernel_id: str, session_id: str = "s", query: str = "", *, answers: bool = True
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket to a kernel; it is closed at the end of the test.

        One that waits to be closed `answers` no pings: a pong could meet the end of the connection.
        """
        path = f"/api/kernels/{kernel_id}/channels?session_id={session_id}{query}"
        socket = await self.service.http.ws_connect(path, headers=self.headers, autoping=answers)
        self.sockets.append(socket)
        return socket


class UsersGateway:
    """A gateway, its application, and its users' clients by role."""

    def __init__(self, service: Service, app: web.Application) -> None:
        self.service = service
        self.app = app
        self.people = {role: Person(service, role) for role in USERS}


@asynccontextmanager
async def serve_users(live: LiveSettings) -> AsyncIterator[UsersGateway]:
    """Serve a gateway; it is stopped as SIGTERM would, so kernels go on."""
    app = server.build(live)
    app.middlewares.insert(len(app.middlewares) - 1, _identify)  # before ownership is checked
    timeout = aiohttp.ClientTimeout(60.0)
    authorization = {"Authorization": f"token {TOKEN}"}
    async with (
        server.serve(app, live) as port,
        aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", headers=authorization, timeout=timeout
        ) as http,
    ):
        gateway = UsersGateway(Service(live, port, http), app)
        yield gateway
        for person in gateway.people.values():
            for socket in person.sockets:
                await socket.close()


@web.middleware
async def _identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    user = request[USER] = USERS[request.headers.get(USER_HEADER, "shared")]
    set_client(user.username if user.is_named else "", user.credential)
    return await handler(request)
