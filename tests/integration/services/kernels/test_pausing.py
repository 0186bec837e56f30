"""Idle kernels are paused, and go on when they are needed, through any replica."""

import asyncio
import dataclasses
import functools
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from harness.delays import change_delays
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Service, is_state, serve_settings
from harness.waiting import eventually

from enterprise_gateway.services.kernels.agents.state import format_time
from enterprise_gateway.settings import CullingSettings, LiveSettings

CHECK_SECONDS = 0.02


@pytest.fixture
def live(live: LiveSettings) -> LiveSettings:
    """Settings with which idle kernels are paused after a second."""
    kernels = dataclasses.replace(live.current.kernels, pause_idle_timeout=1)
    live.replace(dataclasses.replace(live.current, kernels=kernels))
    change_delays(live, pause_check_seconds=CHECK_SECONDS, request_seconds=1)
    return live


@pytest.fixture
async def pair(engine: FakeEngine, live: LiveSettings) -> AsyncIterator[tuple[Service, Service]]:
    """Two gateways with one engine."""
    del engine
    async with serve_settings(live) as one, serve_settings(live) as other:
        yield one, other


async def is_paused(service: Service, kernel_id: str) -> bool:
    """Say whether a gateway shows a kernel as paused."""
    return (await service.get(f"/api/kernels/{kernel_id}")).get("paused", False) is True


async def start_paused(engine: FakeEngine, pair: tuple[Service, Service]) -> str:
    """Start a kernel, and wait until both gateways show that it is paused; return its id."""
    kernel_id = await pair[0].start_kernel()
    for service in pair:
        await eventually(functools.partial(is_paused, service, kernel_id))
    assert kernel_id in engine.paused
    return kernel_id


async def test_idle_kernel_is_paused_until_it_is_needed(
    engine: FakeEngine, pair: tuple[Service, Service]
) -> None:
    """Looking at it does not wake it; a request does, through any gateway."""
    one, other = pair
    kernel_id = await start_paused(engine, pair)
    for service in pair:
        assert (await service.get(f"/api/kernels/{kernel_id}"))["execution_state"] == "idle"
        (model,) = await service.get("/api/kernels")
        assert (model["execution_state"], model["paused"]) == ("idle", True)
        assert await service.get("/api/sessions") == []
    assert kernel_id in engine.paused
    path = f"/api/kernels/{kernel_id}"
    for service in (other, one):
        await eventually(lambda: kernel_id in engine.paused)
        assert (await service.ask("POST", f"{path}/interrupt")).status == 204
    session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    await eventually(lambda: kernel_id in engine.paused)
    assert (await other.ask("POST", "/api/sessions", json=session)).status == 201
    await eventually(lambda: kernel_id in engine.paused)
    assert (await one.ask("DELETE", path)).status == 204
    assert engine.ended_in_order == [kernel_id]


async def test_kernel_in_use_is_not_paused(
    engine: FakeEngine, pair: tuple[Service, Service]
) -> None:
    """A cell that runs, or a client that is connected, is noticed at the last moment."""
    one, other = pair
    kernel_id = await one.start_kernel()
    agent = engine.agents[kernel_id]
    for use, rest in (
        ({"execution_state": "busy"}, {"execution_state": "idle"}),
        ({"connections": 1, "websockets": 1}, {"connections": 0, "websockets": 0}),
    ):
        pauses = engine.pauses
        agent.state.update(use)  # which is not told, as if the event streams were slow
        for service in pair:
            shown = {name: value for name, value in use.items() if name != "websockets"}
            await eventually(functools.partial(tells, service, kernel_id, shown))
        assert engine.pauses == pauses
        agent.change(**rest)
        await eventually(lambda: kernel_id in engine.paused)
        assert (await other.ask("POST", f"/api/kernels/{kernel_id}/interrupt")).status == 204


async def tells(service: Service, kernel_id: str, state: dict[str, Any]) -> bool:
    """Say whether a gateway has this in the model of a kernel."""
    return state.items() <= (await service.get(f"/api/kernels/{kernel_id}")).items()


async def test_request_wakes_a_kernel_that_is_paused_meanwhile(
    engine: FakeEngine, pair: tuple[Service, Service]
) -> None:
    """As by another gateway, which did not know of the request."""
    kernel_id = await pair[0].start_kernel()
    agent = engine.agents[kernel_id]
    path = f"/api/kernels/{kernel_id}/interrupt"
    for number in range(20):
        engine.freeze(kernel_id)
        asked = agent.asked
        asking = asyncio.create_task(pair[number % 2].ask("POST", path))
        await eventually(lambda asked=asked: agent.asked > asked)
        engine.tell_paused(kernel_id, is_paused=True)
        assert (await asking).status == 204


async def test_misplaced_pause_is_undone(engine: FakeEngine, pair: tuple[Service, Service]) -> None:
    """If all that is known of the use is the kernel's own state."""
    kernel_id = await pair[0].start_kernel()
    engine.agents[kernel_id].change(execution_state="busy")
    for service in pair:
        await eventually(functools.partial(is_state, service, kernel_id, "busy"))
    engine.freeze(kernel_id)
    engine.tell_paused(kernel_id, is_paused=True)
    await eventually(lambda: kernel_id not in engine.paused)


async def test_next_gateway_learns_the_state_of_a_paused_kernel(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """With its sessions, in its first answer."""
    async with serve_settings(live) as first:
        kernel_id = await first.start_kernel()
        session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
        assert (await first.ask("POST", "/api/sessions", json=session)).status == 201
        await eventually(lambda: kernel_id in engine.paused)
    async with serve_settings(live) as second:
        assert [one["path"] for one in await second.get("/api/sessions")] == ["a.ipynb"]
        (model,) = await second.get("/api/kernels")
        assert model["execution_state"] == "idle"


async def test_paused_kernel_goes_on_when_it_is_to_be_culled(
    engine: FakeEngine, pair: tuple[Service, Service], live: LiveSettings
) -> None:
    """Its agent culls it; a kernel that the agent leaves alone is not paused again."""
    culling = CullingSettings(cull_idle_timeout=4)
    kernels = dataclasses.replace(live.current.kernels, culling=culling)
    kernel_id = await pair[0].start_kernel()
    live.replace(dataclasses.replace(live.current, kernels=kernels))
    active = time.time()
    engine.agents[kernel_id].change(last_activity=format_time(active))
    await eventually(lambda: kernel_id in engine.paused)
    assert time.time() < active + 4
    await eventually(lambda: kernel_id not in engine.paused)
    assert time.time() >= active + 4
    later = await pair[0].start_kernel()
    engine.agents[later].change(last_activity=format_time(time.time()))
    await eventually(lambda: later in engine.paused)
    assert kernel_id not in engine.paused


async def test_silent_engine_leaves_a_kernel_paused(
    engine: FakeEngine, pair: tuple[Service, Service]
) -> None:
    """The request is answered 503, and the next one wakes it."""
    kernel_id = await start_paused(engine, pair)
    engine.is_down = True
    path = f"/api/kernels/{kernel_id}"
    answer = await pair[1].ask("POST", f"{path}/interrupt")
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    assert (await pair[1].get("/api/kernels"))[0]["id"] == kernel_id
    engine.is_down = False
    assert (await pair[1].ask("POST", f"{path}/interrupt")).status == 204
