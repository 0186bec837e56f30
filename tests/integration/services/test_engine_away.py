"""An engine that goes away, and comes back, under a gateway with a kernel."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from harness.agents.relay import Relay
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

ENGINE = "unix:///var/run/docker.sock"


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    """The relay between the gateway and the engine."""
    engine = os.environ.get("DOCKER_HOST") or ENGINE
    relay = Relay(tmp_path / "engine.sock", engine.removeprefix("unix://"))
    await relay.open()
    yield relay
    await relay.close()


@pytest.fixture
async def gateway(tmp_path: Path, relay: Relay) -> AsyncIterator[Gateway]:
    """A gateway behind the relay."""
    env = {"DOCKER_HOST": relay.host}
    gateway = await asyncio.to_thread(Gateway, tmp_path / "gateway", env=env)
    try:
        await asyncio.to_thread(gateway.start)
        yield gateway
    finally:
        await asyncio.to_thread(gateway.close)


def use(gateway: Gateway, kernel_id: str) -> None:
    """Do everything to a kernel that needs no engine."""
    path = f"/api/kernels/{kernel_id}"
    assert list(gateway.list_kernels()) == [kernel_id]
    with closing(gateway.connect(kernel_id)) as client:
        assert client.execute("x = 1").status == "ok"
        request_id = client.start_execution("print('on')\nwhile True: pass")
        client.receive_until(lambda message: message.type == "stream")
        assert gateway.request("POST", f"{path}/interrupt").status_code == 204
        assert client.finish_execution(request_id).status == "error"
        assert gateway.request("POST", f"{path}/restart").status_code == 200
        assert client.execute("x").status == "error"
    for method, other in (("POST", "/api/kernels"), ("GET", "/readyz")):
        answer = gateway.request(method, other)
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers


def is_ready(gateway: Gateway) -> bool:
    """Say whether the gateway can start kernels."""
    return gateway.request("GET", "/readyz").status_code == 200


async def test_kernels_go_on_while_the_engine_is_away(gateway: Gateway, relay: Relay) -> None:
    """Agents go on with their work; the rest works again when the engine is back."""
    kernel_id = await asyncio.to_thread(gateway.start_kernel, "python_docker")
    client = await asyncio.to_thread(gateway.connect, kernel_id)
    await relay.close()
    await asyncio.to_thread(use, gateway, kernel_id)
    assert (await asyncio.to_thread(client.execute, "40 + 2")).result == "42"
    await relay.open()
    await asyncio.to_thread(wait_until, lambda: is_ready(gateway), what="readiness")
    await asyncio.to_thread(gateway.delete_kernel, kernel_id)
    await asyncio.to_thread(gateway.wait_until_no_kernels)
