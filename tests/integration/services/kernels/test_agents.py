"""Kernels and their agents: states, verbs, agents that do not answer."""

import socket
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from harness.delays import change_delays
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Service, is_state, serve_settings, state_of
from harness.gateways.users import serve_users
from harness.waiting import eventually

from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    Workload,
    WorkloadState,
)
from enterprise_gateway.settings import CullingSettings, LiveSettings, ResourceSettings
from enterprise_gateway.settings.values.times import Times


async def test_model_follows_the_agent(service: Service, engine: FakeEngine) -> None:
    """State, activity and connections are those of the agent, without polling it."""
    kernel_id = await service.start_kernel()
    engine.agents[kernel_id].change(
        execution_state="busy", connections=3, last_activity="2026-01-03T03:04:05.000000Z"
    )
    await eventually(lambda: is_state(service, kernel_id, "busy"))
    model = (await service.get("/api/kernels"))[0]
    assert model["connections"] == 3
    assert model["last_activity"] == "2026-01-03T03:04:05.000000Z"


async def test_silent_agent_is_unavailable(service: Service, engine: FakeEngine) -> None:
    """A kernel whose agent cannot be reached is 503, not gone, while its workload lives."""
    kernel_id = await service.start_kernel()
    agent = engine.agents[kernel_id]
    await agent.stop()

    async def is_unavailable() -> bool:
        return (await service.ask("GET", f"/api/kernels/{kernel_id}")).status == 503

    await eventually(is_unavailable)
    answer = await service.ask("POST", f"/api/kernels/{kernel_id}/interrupt")
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert (await service.get("/api/kernels"))[0]["id"] == kernel_id
    assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204


async def test_agent_that_breaks_the_contract_is_unavailable(
    service: Service, engine: FakeEngine
) -> None:
    """Its document is no state; once it keeps the contract again, so is the kernel available."""
    kernel_id = await service.start_kernel()
    agent = engine.agents[kernel_id]
    agent.change(execution_state=5)

    async def is_unavailable() -> bool:
        return (await service.ask("GET", f"/api/kernels/{kernel_id}")).status == 503

    await eventually(is_unavailable)
    agent.change(execution_state="idle")
    await eventually(lambda: is_state(service, kernel_id, "idle"))


async def test_agent_interrupts_and_restarts(service: Service, engine: FakeEngine) -> None:
    """204 and 200 with the model; a body of any kind does not matter."""
    kernel_id = await service.start_kernel()
    headers = {"Content-Type": "application/json"}
    for body in (b"", b"{}"):
        path = f"/api/kernels/{kernel_id}"
        interrupt = await service.ask("POST", f"{path}/interrupt", data=body, headers=headers)
        restart = await service.ask("POST", f"{path}/restart", data=body, headers=headers)
        assert interrupt.status == 204
        assert restart.status == 200
        assert restart.body["id"] == kernel_id
    calls = engine.agents[kernel_id].calls
    assert calls == ["POST /v1/interrupt", "POST /v1/restart"] * 2


async def test_new_culling_settings_reach_the_agents(service: Service, engine: FakeEngine) -> None:
    """A change of the settings is pushed to running kernels."""
    kernel_id = await service.start_kernel()
    culling = CullingSettings(cull_idle_timeout=123)
    kernels = replace(service.live.current.kernels, culling=culling)
    service.live.replace(replace(service.live.current, kernels=kernels))
    agent = engine.agents[kernel_id]

    async def is_told() -> bool:
        return bool(agent.bodies)

    await eventually(is_told)
    assert agent.bodies == [
        {
            "cull_idle_timeout": 123,
            "cull_interval": 300,
            "cull_connected": False,
            "cull_busy": False,
            "cull_gpu_idle_timeout": 0,
        }
    ]


async def test_new_times_of_users_and_groups_reach_the_agents(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """Also through a replica that has not started the kernel: a label names the groups.

    New settings of the gateway do not take away what a user has of their own.
    """
    groups = (("writers", Times(cull_idle_timeout=20, cull_busy=True)),)

    def change(**kernels: Any) -> None:
        live.replace(replace(live.current, kernels=replace(live.current.kernels, **kernels)))

    change(resources=ResourceSettings(group_times=groups))
    async with serve_users(live) as one:
        kernel_id = await one.people["writer"].start_kernel()
    agent = engine.agents[kernel_id]
    async with serve_users(live) as other:
        await other.people["writer"].get(f"/api/kernels/{kernel_id}")

        async def is_told(times: int) -> bool:
            return len(agent.bodies) == times

        change(culling=CullingSettings(cull_idle_timeout=123))
        await eventually(lambda: is_told(1))
        users = (("walt", Times(cull_idle_timeout=30)),)
        change(resources=ResourceSettings(user_times=users, group_times=groups))
        await eventually(lambda: is_told(2))
    told = [(body["cull_idle_timeout"], body["cull_busy"]) for body in agent.bodies]
    assert told == [(20, True), (30, True)]


@pytest.mark.usefixtures("engine")
async def test_wrong_cluster_secret_is_unavailable(live: LiveSettings) -> None:
    """A gateway that cannot prove itself to an agent does not call its kernel gone."""
    async with serve_settings(live) as first:
        kernel_id = await first.start_kernel()
    live.replace(replace(live.current, cluster_secret=b"x" * 32))
    async with serve_settings(live) as second:
        assert (await second.ask("GET", f"/api/kernels/{kernel_id}")).status == 503


async def test_answers_do_not_show_tokens(service: Service, engine: FakeEngine) -> None:
    """No answer of any kind has the agent's token in it."""
    kernel_id = await service.start_kernel()
    token = engine.requests[0].launch_token
    await engine.agents[kernel_id].stop()
    for method, path in (
        ("GET", f"/api/kernels/{kernel_id}"),
        ("POST", f"/api/kernels/{kernel_id}/restart"),
        ("GET", "/metrics"),
    ):
        assert token.encode() not in (await service.ask(method, path)).raw


async def test_kernels_go_on_when_the_gateway_stops(engine: FakeEngine, live: LiveSettings) -> None:
    """Stopping the gateway calls nothing on any agent."""
    async with serve_settings(live) as service:
        kernel_id = await service.start_kernel()
    assert engine.agents[kernel_id].calls == []
    assert engine.removals == []


@pytest.mark.parametrize(
    ("listens", "reaches_others"), [(True, True), (False, True), (False, False)]
)
async def test_workload_without_an_agent_is_removed(
    engine: FakeEngine,
    live: LiveSettings,
    *,
    listens: bool,
    reaches_others: bool,
) -> None:
    """Nothing listens, so no client can use it. A silent listener is left alone.

    So are all workloads if this replica has never reached an agent: a firewall may refuse as well.
    """
    change_delays(live, orphan_seconds=0.5, agent_silence_seconds=0.1)
    kernel_id = str(uuid.uuid4())
    with socket.socket() as agent:
        agent.bind(("127.0.0.1", 0))
        if listens:
            agent.listen()
        endpoint = AgentEndpoint("127.0.0.1", agent.getsockname()[1])
        orphan = Workload(kernel_id, "", "ann", WorkloadState.RUNNING, time.time(), endpoint)
        engine.announce(orphan)
        async with serve_settings(live) as service:
            if reaches_others:
                await service.start_kernel()

            async def is_checked() -> bool:
                return engine.observations.count(kernel_id) >= 6

            async def is_removed() -> bool:
                return engine.removals == [kernel_id]

            if listens or not reaches_others:
                await eventually(is_checked)
                assert engine.removals == []
            else:
                await eventually(is_removed)
                assert await state_of(service, kernel_id) == "gone"
