"""Kernels of two replicas with one engine: each sees what the other does."""

import asyncio
import functools
import time
import uuid
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from harness.agents.fake_agent import RESTART
from harness.delays import change_delays
from harness.engines import fake_engine
from harness.engines.fake_engine import FakeEngine, launches_of
from harness.gateways.service import Service, is_state, serve_settings
from harness.waiting import eventually

from enterprise_gateway.errors import LaunchError
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.kernels.planning.launches import distinguish_launch
from enterprise_gateway.services.kernels.pools.pool import plan_pool
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import (
    WorkloadState,
)
from enterprise_gateway.settings import LiveSettings


async def test_next_replica_finds_the_kernels(engine: FakeEngine, live: LiveSettings) -> None:
    """With its first answer it knows state, name and sessions, and can do everything to them."""
    async with serve_settings(live) as first:
        kernel_id = await first.start_kernel()
        session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
        assert (await first.ask("POST", "/api/sessions", json=session)).status == 201
        engine.agents[kernel_id].change(execution_state="busy")
    async with serve_settings(live) as second:
        (model,) = await second.get("/api/kernels")
        assert model["id"] == kernel_id
        assert model["name"] == "python3"
        assert model["execution_state"] == "busy"
        assert [one["path"] for one in await second.get("/api/sessions")] == ["a.ipynb"]
        assert (await second.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200


@pytest.mark.usefixtures("engine")
async def test_any_replica_tells_how_long_a_start_took(live: LiveSettings) -> None:
    """All of it, though another replica has measured it; after a restart, that of the restart."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        answer = await one.ask("POST", "/api/kernels")
        kernel_id, start = answer.body["id"], answer.body["start"]
        assert sum(start["steps"].values()) == pytest.approx(start["seconds"], abs=0.01)
        await eventually(lambda: tells_start(other, kernel_id, start))
        assert await tells_start(one, kernel_id, start)
        assert "start" not in (await one.get("/api/kernels"))[0]
        assert (await other.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200
        await eventually(lambda: tells_start(one, kernel_id, RESTART))
        assert await tells_start(other, kernel_id, RESTART)


async def tells_start(service: Service, kernel_id: str, start: dict[str, Any]) -> bool:
    """Say whether a gateway tells that the latest start of a kernel took this."""
    model = await service.get(f"/api/kernels/{kernel_id}")
    return model.get("start") == start


async def test_start_under_way_tells_its_steps(engine: FakeEngine, live: LiveSettings) -> None:
    """Through the replica that starts the kernel; the last one is under way."""
    kernel_id = str(uuid.uuid4())
    engine.gate.clear()
    async with serve_settings(live) as service:
        starting = asyncio.create_task(service.start_kernel(kernel_id=kernel_id))
        await eventually(lambda: is_state(service, kernel_id, "starting"))
        model = await service.get(f"/api/kernels/{kernel_id}")
        assert list(model["start"]["steps"]) == ["admission", "queue", "prepare"]
        engine.gate.set()
        await starting


async def test_any_replica_launches_a_dead_kernel_again(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """With its user, environment and sessions, though another replica launched it."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        env = {"KERNEL_X": "a$b", "KERNEL_USERNAME": "ann", "OTHER": "x"}
        kernel_id = await one.start_kernel(env=env)
        session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
        assert (await one.ask("POST", "/api/sessions", json=session)).status == 201
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        await engine.kill(kernel_id, "exit code 139")
        await eventually(lambda: is_state(other, kernel_id, "dead"))
        restart = await other.ask("POST", f"/api/kernels/{kernel_id}/restart")
        assert restart.status == 200, restart.raw
        assert restart.body["execution_state"] == "idle"
        first, second = launches_of(engine)
        assert first == second
        await eventually(lambda: is_state(one, kernel_id, "idle"))
        for service in (one, other):
            assert [each["path"] for each in await service.get("/api/sessions")] == ["a.ipynb"]


async def test_kernel_that_no_agent_can_restart_is_launched_again(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """Through any replica; id, environment and sessions stay, as with a dead kernel."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel(env={"KERNEL_X": "1"})
        session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
        assert (await one.ask("POST", "/api/sessions", json=session)).status == 201
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "idle"))
            engine.age(kernel_id, 10.0)
            agent = engine.agents[kernel_id]
            agent.is_sidecar = True
            restart = await service.ask("POST", f"/api/kernels/{kernel_id}/restart")
            assert restart.status == 200, restart.raw
            assert restart.body["execution_state"] == "idle"
            assert agent.calls[-1] == "POST /v1/restart"
            assert engine.agents[kernel_id] is not agent
        first, *others = launches_of(engine)
        assert others == [first, first]
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "idle"))
            assert [each["path"] for each in await service.get("/api/sessions")] == ["a.ipynb"]


async def test_restart_of_a_dead_kernel_joins_that_of_another_replica(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """The second replica finds it running, and does not launch it once more."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel()
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        await engine.kill(kernel_id, "exit code 139")
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "dead"))
        answers = [
            await service.ask("POST", f"/api/kernels/{kernel_id}/restart")
            for service in (one, other)
        ]
        assert [answer.status for answer in answers] == [200, 200]
        assert len(engine.requests) == 2
        assert [model["id"] for model in await other.get("/api/kernels")] == [kernel_id]


async def test_dead_kernel_is_launched_once_by_two_replicas(
    engine: FakeEngine, live: LiveSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second replica waits for the first one's kernel, and leaves it alone."""
    engine.keeps_dead = True
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel()
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        await engine.kill(kernel_id, "exit code 139")
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "dead"))
        later = time.time() + 10
        monkeypatch.setattr(fake_engine, "time", SimpleNamespace(time=lambda: later))
        engine.gate.clear()
        path = f"/api/kernels/{kernel_id}/restart"
        restarts = [asyncio.create_task(each.ask("POST", path)) for each in (one, other)]

        async def is_launching() -> bool:
            return len(engine.requests) >= 2

        await eventually(is_launching)
        engine.gate.set()
        assert [(await restart).status for restart in restarts] == [200, 200]
        assert list(engine.agents) == [kernel_id]


async def test_dead_kernel_deleted_through_another_replica_is_gone(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """All replicas know it by its tombstone, also one that starts only now."""
    engine.keeps_dead = True
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel()
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        await engine.kill(kernel_id, "exit code 139")
        await eventually(lambda: is_state(other, kernel_id, "dead"))
        async with serve_settings(live) as late:
            (model,) = await late.get("/api/kernels")
            assert (model["id"], model["execution_state"]) == (kernel_id, "dead")
            assert "exit code 139" in model["reason"]
            assert (await one.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204
            for service in (one, other, late):
                await eventually(functools.partial(is_state, service, kernel_id, "gone"))


async def test_kernel_launched_again_outlives_the_news_of_its_death(
    engine: FakeEngine, live: LiveSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a workload says nothing about one that came after it."""
    change_delays(live, final_state_seconds=0.5)
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel()
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        first = await engine.observe(kernel_id)
        assert first is not None
        later = time.time() + 10
        monkeypatch.setattr(fake_engine, "time", SimpleNamespace(time=lambda: later))
        # Its agent does not end: the other replica waits for its final state.
        engine.announce(replace(first, state=WorkloadState.DEAD, exit_reason="exit code 1"))
        await eventually(lambda: is_state(one, kernel_id, "dead"))
        assert (await one.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "idle"))
        engine.tell(replace(first, state=WorkloadState.DEAD, exit_reason="exit code 1"))
        engine.tell(replace(first, state=WorkloadState.GONE))
        await one.start_kernel()  # proves that the news was applied
        for service in (one, other):
            assert await is_state(service, kernel_id, "idle")


async def test_dead_kernel_of_unknown_origin_stays_dead(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """409 with what to do, if neither this replica nor the engine knows the launch."""
    engine.is_forgetful = True
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel()
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        await engine.kill(kernel_id, "exit code 1")
        await eventually(lambda: is_state(other, kernel_id, "dead"))
        answer = await other.ask("POST", f"/api/kernels/{kernel_id}/restart")
        assert answer.status == 409
        assert "start a new one" in answer.message


async def test_id_that_another_replica_uses_again_is_found(
    engine: FakeEngine, live: LiveSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requested end of an earlier kernel says nothing about this one."""
    del engine
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel()
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        assert (await one.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204

        async def is_gone() -> bool:
            return (await other.ask("GET", f"/api/kernels/{kernel_id}")).status == 404

        await eventually(is_gone)
        later = time.time() + 10
        monkeypatch.setattr(fake_engine, "time", SimpleNamespace(time=lambda: later))
        await one.start_kernel(kernel_id=kernel_id)
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        assert [model["id"] for model in await other.get("/api/kernels")] == [kernel_id]


async def test_launch_elsewhere_is_listed_once_it_has_succeeded(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """No replica lists a kernel that no client has; a request by its id is told that it starts."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = str(uuid.uuid4())
        engine.gate.clear()
        start = asyncio.create_task(one.start_kernel(kernel_id=kernel_id))
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "starting"))
            assert await service.get("/api/kernels") == []
        engine.gate.set()
        assert await start == kernel_id

        async def is_listed() -> bool:
            return bool(await other.get("/api/kernels") == await one.get("/api/kernels"))

        await eventually(is_listed)
        assert len(await other.get("/api/kernels")) == 1


async def test_launch_that_fails_elsewhere_leaves_no_trace(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """No replica takes it for a kernel that died."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = str(uuid.uuid4())
        engine.gate.clear()
        start = asyncio.create_task(one.ask("POST", "/api/kernels", json={"kernel_id": kernel_id}))
        await eventually(lambda: is_state(other, kernel_id, "starting"))
        engine.failure = LaunchError("no memory left")
        engine.gate.set()
        assert (await start).status == 500
        await eventually(lambda: is_state(other, kernel_id, "gone"))
        assert await other.get("/api/kernels") == await one.get("/api/kernels") == []


@pytest.mark.usefixtures("engine")
async def test_failed_launch_does_not_hide_the_kernel_of_another_replica(
    live: LiveSettings,
) -> None:
    """Two clients asked two replicas for the same id: both find the one that came up."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = str(uuid.uuid4())
        answers = await asyncio.gather(
            *(
                service.ask("POST", "/api/kernels", json={"kernel_id": kernel_id})
                for service in (one, other)
            )
        )
        assert min(answer.status for answer in answers) == 201
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "idle"))
            assert [model["id"] for model in await service.get("/api/kernels")] == [kernel_id]


async def test_kernel_that_another_replica_launches_again_stays_listed(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """With its name and sessions: clients forget a kernel that a list does not show."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel()
        session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
        assert (await one.ask("POST", "/api/sessions", json=session)).status == 201
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        await engine.kill(kernel_id, "exit code 139")
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "dead"))
        engine.gate.clear()
        restart = asyncio.create_task(one.ask("POST", f"/api/kernels/{kernel_id}/restart"))
        await eventually(lambda: is_state(other, kernel_id, "starting"))
        (listed,) = await other.get("/api/kernels")
        assert (listed["id"], listed["name"]) == (kernel_id, "python3")
        assert [each["path"] for each in await other.get("/api/sessions")] == ["a.ipynb"]
        engine.gate.set()
        assert (await restart).status == 200
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        assert [each["path"] for each in await other.get("/api/sessions")] == ["a.ipynb"]


@pytest.mark.usefixtures("engine")
async def test_delete_through_one_replica_is_no_death_for_another(
    live: LiveSettings,
) -> None:
    """A kernel that exceeds a limit is gone for all replicas, too."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        deleted = await one.start_kernel()
        kept = await one.start_kernel()
        await eventually(lambda: is_state(other, kept, "idle"))
        assert (await one.ask("DELETE", f"/api/kernels/{deleted}")).status == 204
        await eventually(lambda: is_state(other, deleted, "gone"))

        kernels = replace(live.current.kernels, max_kernels=2)
        live.replace(replace(live.current, kernels=kernels))
        starts = (service.ask("POST", "/api/kernels") for service in (one, other) for _ in range(3))
        statuses = sorted(answer.status for answer in await asyncio.gather(*starts))
        assert statuses == [201] + 5 * [403]

        async def is_same() -> bool:
            lists = [await service.get("/api/kernels") for service in (one, other)]
            return bool(lists[0] == lists[1] and len(lists[0]) == 2)

        await eventually(is_same)


async def test_kernel_of_a_pool_may_be_taken_before_its_launcher_knows_it(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """News of it is ignored until its launch is over, so the engine is asked once more then."""
    proxies: Any = engine
    registry = Registry(live, proxies, EventBus())
    pool = plan_pool(await Kernelspecs(live, proxies).get("python3"), live.current)
    launch = distinguish_launch(pool.launch, live.current.cluster_secret)
    launch = replace(launch, pool=pool.key)
    with registry.launching(engine, launch):
        waiting = await engine.launch(launch)
        engine.announce(replace(waiting, username="ann"))
        record = registry.add(engine, waiting, launch)
    await eventually(lambda: not record.is_pooled, deadline=10)
    assert (record.workload.username, record.launch) == ("ann", None)
    await registry.close()
