"""The connection to the engine."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.web_request import BaseRequest

from enterprise_gateway.errors import ConflictError, NotFoundError, UnavailableError
from enterprise_gateway.services.processproxies.engine.client import (
    DockerEngine,
    NotAManagerError,
)
from enterprise_gateway.settings import DockerSettings

TROUBLE = {
    "missing": (404, "network missing not found"),
    "conflict": (409, "it is in use"),
    "no-swarm": (503, 'This node is not a swarm manager. Use "docker swarm init"'),
    "not-yet": (503, "This node is not a swarm manager. Manager is being prepared or has trouble"),
    "proxy": (503, "<html><body><h1>503 Service Unavailable</h1></body></html>"),
    "no-leader": (500, "rpc error: The swarm does not have a leader."),
}


async def answer(request: BaseRequest) -> web.StreamResponse:
    """Answer as an engine with broken networks and no events."""
    name = request.path.rpartition("/")[2]
    if name == "events":
        stream = web.StreamResponse()
        await stream.prepare(request)
        await asyncio.Event().wait()
    status, message = TROUBLE.get(name, (200, ""))
    body = json.dumps({"ApiVersion": "1.41", "message": message}).encode()
    return web.Response(body=body, status=status, content_type="application/json")


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    """Return a connection by TCP."""
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    engine = DockerEngine(DockerSettings(host=f"tcp://127.0.0.1:{listener.getsockname()[1]}"))
    engine.open()
    yield engine
    await engine.close()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("missing", NotFoundError),
        ("conflict", ConflictError),
        ("no-swarm", NotAManagerError),
        ("not-yet", UnavailableError),
        ("no-leader", UnavailableError),
    ],
)
async def test_trouble_is_named_by_who_has_to_act(
    engine: DockerEngine, name: str, kind: type[Exception]
) -> None:
    """The engine's own message is passed on."""
    with pytest.raises(kind) as trouble:
        await engine.network(name)
    assert type(trouble.value) is kind
    assert TROUBLE[name][1] in str(trouble.value)


async def test_page_of_a_proxy_is_not_passed_on(engine: DockerEngine) -> None:
    """The HTML page of a proxy before the engine means nothing to a user."""
    with pytest.raises(UnavailableError, match=r"is away \(status 503\)") as trouble:
        await engine.network("proxy")
    assert "<" not in str(trouble.value)


async def test_connection_notices_that_the_engines_machine_is_off(engine: DockerEngine) -> None:
    """A stream of events sends nothing, so no write would fail."""
    url = f"{engine.host.replace('tcp', 'http')}/events"
    async with engine.connected().session.get(url) as response:
        assert response.connection is not None
        assert response.connection.transport is not None
        sock = response.connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_closed_connection_is_told(engine: DockerEngine) -> None:
    """A late request fails with a clear error; closing twice does no harm."""
    await engine.ping()
    await engine.close()
    await engine.close()
    with pytest.raises(UnavailableError, match="is closed"):
        await engine.ping()
