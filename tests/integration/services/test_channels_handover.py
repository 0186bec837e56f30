"""The answer to a load balancer that connects clients with agents by itself."""

import asyncio
from pathlib import Path

import pytest
from harness.agents.raw_agent import BALANCER_SECRET, Spliced, Stream, serve_channels

from enterprise_gateway.errors import GatewayError, NotFoundError, UnavailableError
from enterprise_gateway.services.kernels.kernels import DeadKernel


async def fail(_stream: Stream) -> None:
    """No connection may come to the agent."""
    raise AssertionError("the gateway has connected to the agent")


async def ask(gateway: Spliced, secret: str = BALANCER_SECRET) -> tuple[int, dict[str, str]]:
    """Ask as the load balancer does; returns status and headers."""
    client = await gateway.dial(
        query="?session_id=s1", headers=f"X-EG-Balancer: {secret}\r\n".encode()
    )
    status, *fields = (await client.read_head()).decode().strip().split("\r\n")
    await client.close()
    return int(status.split()[1]), dict(field.split(": ", 1) for field in fields)


async def test_balancer_is_told_where_the_agent_is() -> None:
    """With the agent's own authorization; the gateway connects to nothing."""
    async with serve_channels(fail) as gateway:
        status, headers = await ask(gateway)
        assert status == 204
        assert headers["X-EG-Agent-Address"] == f"127.0.0.1:{gateway.agent.endpoint.port}"
        assert headers["X-EG-Agent-Target"] == "/v1/channels?session_id=s1"
        assert headers["X-EG-Agent-Authorization"] == "Bearer agents-token"
        assert gateway.agent.requests == []
        assert gateway.agent.changes == 1


async def test_balancer_is_told_of_no_unix_socket(tmp_path: Path) -> None:
    """It asks again as any client then, and the gateway splices."""
    async with serve_channels(fail, str(tmp_path / "s")) as gateway:
        status, headers = await ask(gateway)
    assert status == 204
    assert not [name for name in headers if name.startswith("X-EG")]


async def test_balancer_is_told_of_no_agent_of_a_dead_kernel() -> None:
    """It asks again as any client then, and the gateway answers for the agent."""
    async with serve_channels(fail) as gateway:
        gateway.kernels.dead = DeadKernel("the node is gone", (), {}, asyncio.Event())
        status, headers = await ask(gateway)
    assert status == 204
    assert not [name for name in headers if name.startswith("X-EG")]


async def test_other_clients_are_told_of_no_agent() -> None:
    """A wrong secret is refused, and the answer has nothing of the agent."""
    async with serve_channels(fail) as gateway:
        status, headers = await ask(gateway, "a guess")
    assert status == 403
    assert not [name for name in headers if name.startswith("X-EG")]


@pytest.mark.parametrize(
    ("failure", "status"), [(NotFoundError("gone"), 404), (UnavailableError("away"), 503)]
)
async def test_balancer_is_told_why_not(failure: GatewayError, status: int) -> None:
    """As the client would be, to which it passes that on."""
    async with serve_channels(fail) as gateway:
        gateway.kernels.failure = lambda: failure
        assert (await ask(gateway))[0] == status
