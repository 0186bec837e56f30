"""Kernels belong to clients: what no client knows is in no list, and ends by itself."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from harness.agents.fake_agent import FakeAgent
from harness.delays import change_delays
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Service, serve_settings
from harness.waiting import eventually

from enterprise_gateway.app.commands.command import Command
from enterprise_gateway.app.commands.kernels import KernelListApp, KernelStopApp
from enterprise_gateway.errors import LaunchError
from enterprise_gateway.services.kernels import handlers as kernel_handlers
from enterprise_gateway.services.kernels.planning.agent_credentials import derive_agent_token
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.sessions import handlers as session_handlers
from enterprise_gateway.services.sessions.annotations import Session, SessionStore
from enterprise_gateway.settings import LiveSettings

SESSION = Session(id="s1", path="a.ipynb", name="a", type="notebook")


@pytest.fixture
async def orphan(engine: FakeEngine, live: LiveSettings, tmp_path: Path) -> FakeAgent:
    """The agent of a kernel with a session whose gateway died before it answered."""
    kernel_id = str(uuid.uuid4())
    token = derive_agent_token(live.current.cluster_secret, kernel_id)
    path = tmp_path / "orphan.sock"
    store = SessionStore(live.current.cluster_secret, kernel_id)
    stored = msgspec.to_builtins(store.with_session(SESSION, msgspec.Raw(b"{}")))
    document = {"revision": 1, "document": stored}
    agent = FakeAgent(path, kernel_id, token, kernel_name="python3", annotations=document)
    await agent.start()
    engine.agents[kernel_id] = agent
    endpoint = AgentEndpoint(unix_path=str(path))
    running = Workload(kernel_id, "", "ann", WorkloadState.RUNNING, time.time(), endpoint)
    engine.announce(running)
    return agent


async def listed(service: Service) -> list[set[str]]:
    """Return the kernels that each list of a gateway shows."""
    metrics = (await service.ask("GET", "/metrics")).raw.decode()
    idle = [line for line in metrics.splitlines() if line.startswith("eg_kernels{")]
    count = (await service.get("/api/status"))["kernels"]
    assert sum(float(line.split()[-1]) for line in idle) == count
    return [
        {model["id"] for model in await service.get("/api/kernels")},
        {model["kernel"]["id"] for model in await service.get("/api/sessions")},
    ]


async def test_unclaimed_kernel_is_in_no_list(
    engine: FakeEngine, live: LiveSettings, orphan: FakeAgent
) -> None:
    """That replicas follow it and list is no claim."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel()
        await eventually(lambda: is_listed(other, kernel_id))
        for service in (one, other):
            assert await listed(service) == [{kernel_id}, set()]
        assert orphan.state["claimed"] is False
        assert engine.agents[kernel_id].state["claimed"] is True


async def is_listed(service: Service, kernel_id: str) -> bool:
    """Say whether a gateway lists a kernel."""
    return kernel_id in {model["id"] for model in await service.get("/api/kernels")}


async def by_get(service: Service, kernel_id: str) -> None:
    """Ask for the kernel."""
    await service.get(f"/api/kernels/{kernel_id}")


async def by_interrupt(service: Service, kernel_id: str) -> None:
    """Interrupt it."""
    assert (await service.ask("POST", f"/api/kernels/{kernel_id}/interrupt")).status == 204


async def by_restart(service: Service, kernel_id: str) -> None:
    """Restart it."""
    assert (await service.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200


async def by_session(service: Service, kernel_id: str) -> None:
    """Ask for its session."""
    assert (await service.get("/api/sessions/s1"))["kernel"]["id"] == kernel_id


async def by_path(service: Service, kernel_id: str) -> None:
    """Open the notebook once more, as a client does whose first request was lost."""
    body = {"path": "a.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    answer = await service.ask("POST", "/api/sessions", json=body)
    assert answer.body["kernel"]["id"] == kernel_id


async def by_new_session(service: Service, kernel_id: str) -> None:
    """Make another session of it."""
    body = {"path": "b.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    assert (await service.ask("POST", "/api/sessions", json=body)).status == 201


@pytest.mark.parametrize(
    "ask", [by_get, by_interrupt, by_restart, by_session, by_path, by_new_session]
)
async def test_client_that_asks_for_a_kernel_claims_it(
    live: LiveSettings, orphan: FakeAgent, ask: Callable[[Service, str], Awaitable[None]]
) -> None:
    """Through any replica, for all of them."""
    kernel_id = orphan.state["kernel_id"]
    async with serve_settings(live) as one, serve_settings(live) as other:
        assert await listed(one) == [set(), set()]
        await ask(one, kernel_id)
        for service in (one, other):
            await eventually(lambda service=service: is_listed(service, kernel_id))
            assert await listed(service) == [{kernel_id}, {kernel_id}]
        assert orphan.state["claimed"] is True


async def test_operator_lists_and_stops_unclaimed_kernels(
    engine: FakeEngine,
    live: LiveSettings,
    orphan: FakeAgent,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`kernels list` and `kernels stop --all` are about all workloads, claimed or not."""
    monkeypatch.setattr(Command, "read_settings", lambda _self: live.current)
    kernel_id = orphan.state["kernel_id"]
    async with serve_settings(live) as service:
        claimed = await service.start_kernel()
        await KernelListApp().run()
        listed_lines = capsys.readouterr().out
        assert kernel_id in listed_lines
        assert claimed in listed_lines
        assert orphan.state["claimed"] is False
        stop = KernelStopApp()
        stop.stop_all = True
        await stop.run()
    stopped = {f"Stopped {kernel_id}", f"Stopped {claimed}"}
    assert set(capsys.readouterr().out.splitlines()) == stopped
    assert set(engine.removals) == {kernel_id, claimed}
    assert engine.agents == {}


async def test_agent_is_told_of_its_client_until_it_listens(
    service: Service, orphan: FakeAgent
) -> None:
    """One that is too busy for the first two attempts hears the third."""
    change_delays(service.live, claim_retry_seconds=0.01)
    orphan.claims_refused = 2
    await by_get(service, orphan.state["kernel_id"])

    async def is_claimed() -> bool:
        return bool(orphan.state["claimed"])

    await eventually(is_claimed)


@pytest.mark.parametrize("module", [kernel_handlers, session_handlers])
async def test_kernel_of_a_client_that_left_before_the_answer_is_ended(
    service: Service, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    """It has no client, so nothing is left of it."""

    async def fail(_request: web.Request, _response: web.Response) -> web.Response:
        raise ConnectionResetError

    monkeypatch.setattr(module, "write_response", fail)
    is_session = module is session_handlers
    path = "/api/sessions" if is_session else "/api/kernels"
    body = {"path": "a.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await service.ask("POST", path, json=body if is_session else {})

    async def is_ended() -> bool:
        return len(engine.requests) == 1 and not engine.agents

    await eventually(is_ended)
    assert await listed(service) == [set(), set()]


async def test_refused_start_is_listed_by_no_replica(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """Not even for the moment in which it runs, until it is found to be one too many."""
    limits = replace(live.current.kernels, max_kernels=5)
    live.replace(replace(live.current, kernels=limits))
    seen: set[str] = set()
    async with serve_settings(live) as one, serve_settings(live) as other:

        async def look(service: Service) -> None:
            while True:
                seen.update(model["id"] for model in await service.get("/api/kernels"))

        looking = [asyncio.create_task(look(service)) for service in (one, other)]
        answers = await asyncio.gather(
            *(service.ask("POST", "/api/kernels") for _ in range(10) for service in (one, other))
        )
        started = {answer.body["id"] for answer in answers if answer.status == 201}
        assert len(started) == 5
        for service in (one, other):
            for kernel_id in started:
                await eventually(lambda s=service, k=kernel_id: is_listed(s, k))
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
    assert seen == started == set(engine.agents)


async def test_failed_start_is_no_dead_kernel(service: Service, engine: FakeEngine) -> None:
    """The engine's news that its workload died, and is gone, come when the launch is over."""
    kernel_id = str(uuid.uuid4())
    engine.failure = LaunchError("killed before it was ready")
    assert (await service.ask("POST", "/api/kernels", json={"kernel_id": kernel_id})).status == 500
    dead = Workload(
        kernel_id,
        "",
        "ann",
        WorkloadState.DEAD,
        time.time(),
        None,
        "exit code 137",
        is_tombstone=True,
    )
    engine.tell(dead)
    engine.tell(replace(dead, state=WorkloadState.GONE))
    engine.failure = None
    await service.start_kernel()  # as proof that the news has been taken in
    assert (await service.ask("GET", f"/api/kernels/{kernel_id}")).status == 404
    assert len(await service.get("/api/kernels")) == 1


async def test_end_of_an_unknown_workload_is_no_dead_kernel(
    service: Service, engine: FakeEngine
) -> None:
    """What is gone, and was not known, is nothing to tell clients of."""
    gone = Workload(
        str(uuid.uuid4()), "", "ann", WorkloadState.GONE, time.time(), None, "x", is_tombstone=True
    )
    engine.tell(gone)
    kernel_id = await service.start_kernel()
    assert [model["id"] for model in await service.get("/api/kernels")] == [kernel_id]


async def test_unclaimed_kernel_that_dies_is_no_dead_kernel(
    service: Service, engine: FakeEngine, orphan: FakeAgent
) -> None:
    """No client asks why, whatever the engine keeps of it."""
    engine.keeps_dead = True
    kernel_id = orphan.state["kernel_id"]
    known = await service.start_kernel()
    await engine.kill(kernel_id, "exit code 137 (killed)")
    later = await service.start_kernel()  # as proof that the news has been taken in

    async def is_gone() -> bool:
        return (await service.ask("GET", f"/api/kernels/{kernel_id}")).status == 404

    await eventually(is_gone)
    assert (await listed(service))[0] == {known, later}


async def test_kernel_launched_again_is_claimed(service: Service, engine: FakeEngine) -> None:
    """Its clients have known its id all along."""
    kernel_id = await service.start_kernel()
    await engine.kill(kernel_id, "exit code 1")

    async def is_dead() -> bool:
        model = await service.get(f"/api/kernels/{kernel_id}")
        return bool(model["execution_state"] == "dead")

    await eventually(is_dead)
    await by_restart(service, kernel_id)

    async def is_claimed() -> bool:
        return bool(engine.agents[kernel_id].state["claimed"])

    await eventually(is_claimed)


async def test_kernel_of_an_older_agent_is_claimed(live: LiveSettings, orphan: FakeAgent) -> None:
    """Agents of before there were claims do not say, and are not asked."""
    del orphan.state["claimed"]
    orphan.claims_refused = 1000
    async with serve_settings(live) as service:
        await eventually(lambda: is_listed(service, orphan.state["kernel_id"]))
        await by_get(service, orphan.state["kernel_id"])
    assert orphan.claims_refused == 1000
