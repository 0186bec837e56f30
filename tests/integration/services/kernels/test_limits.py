"""Limits of kernels: exact, whatever starts at once and through whichever replica."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Service, is_state, serve_settings
from harness.waiting import eventually

from enterprise_gateway.errors import NotFoundError
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.processproxies.contract import (
    Workload,
    WorkloadState,
)
from enterprise_gateway.settings import LiveSettings, ResourceSettings
from enterprise_gateway.settings.values.amounts import Quota


@pytest.mark.parametrize("field", ["max_kernels", "max_kernels_per_user"])
async def test_limit_is_exact_under_twenty_starts_at_once(
    service: Service, engine: FakeEngine, field: str
) -> None:
    """Seven of twenty get a kernel, the others 403, and seven workloads are left."""
    limit: dict[str, Any] = {field: 7}
    kernels = replace(service.live.current.kernels, **limit)
    service.live.replace(replace(service.live.current, kernels=kernels))
    answers = await asyncio.gather(*(service.ask("POST", "/api/kernels") for _ in range(20)))
    statuses = [answer.status for answer in answers]
    assert statuses.count(201) == 7
    assert statuses.count(403) == 13
    refused = next(answer for answer in answers if answer.status == 403)
    assert "limit has been set to 7" in refused.message
    assert len(engine.agents) == 7


async def test_user_of_a_kernel_is_not_its_agents_word(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """A replica that did not start the kernel knows its user by the name of the workload."""
    kernels = replace(live.current.kernels, max_kernels_per_user=1)
    live.replace(replace(live.current, kernels=kernels))
    user = "an.n@example.org"
    async with serve_settings(live) as one:
        thief = await one.start_kernel(env={"KERNEL_USERNAME": "thief"})
    engine.agents[thief].change(username=user)
    async with serve_settings(live) as other:
        await other.get(f"/api/kernels/{thief}")
        await other.start_kernel(env={"KERNEL_USERNAME": user})
        for refused in (user, "thief"):
            env = {"KERNEL_USERNAME": refused}
            answer = await other.ask("POST", "/api/kernels", json={"env": env})
            assert answer.status == 403
            assert f"user '{refused}' currently has 1" in answer.message
    assert len(engine.requests) == 2


@pytest.mark.parametrize(
    "limit",
    [
        {"max_kernels": 7},
        {"max_kernels_per_user": 7},
        {"resources": ResourceSettings(user_quotas=(("*", Quota(kernels=7)),))},
    ],
    ids=["all", "user", "quota"],
)
async def test_limit_is_exact_across_replicas(
    engine: FakeEngine, live: LiveSettings, limit: dict[str, Any]
) -> None:
    """Two replicas with ten starts each leave seven kernels, without talking to each other."""
    kernels = replace(live.current.kernels, **limit)
    live.replace(replace(live.current, kernels=kernels))
    async with serve_settings(live) as one, serve_settings(live) as other:
        answers = await asyncio.gather(
            *(service.ask("POST", "/api/kernels") for _ in range(10) for service in (one, other))
        )
        assert [answer.status for answer in answers].count(201) == 7
        assert len(engine.agents) == 7


async def test_refused_restart_leaves_the_dead_kernel(service: Service, engine: FakeEngine) -> None:
    """Its place was taken: it stays dead, and can be restarted when there is a place again."""
    engine.keeps_dead = True
    kernels = replace(service.live.current.kernels, max_kernels=1)
    service.live.replace(replace(service.live.current, kernels=kernels))
    dead = await service.start_kernel()
    await engine.kill(dead, "exit code 1")
    await eventually(lambda: is_state(service, dead, "dead"))
    other = await service.start_kernel()
    assert (await service.ask("POST", f"/api/kernels/{dead}/restart")).status == 403
    assert [workload.kernel_id for workload in await engine.list()] == [dead, other]
    assert (await service.ask("DELETE", f"/api/kernels/{other}")).status == 204
    assert (await service.ask("POST", f"/api/kernels/{dead}/restart")).status == 200


async def test_start_that_cannot_be_checked_leaves_no_kernel(
    service: Service, engine: FakeEngine
) -> None:
    """The engine went away when the kernel was ready: its agent ends it, as no client gets it."""
    kernels = replace(service.live.current.kernels, max_kernels=5)
    service.live.replace(replace(service.live.current, kernels=kernels))
    await service.start_kernel()
    engine.gate.clear()
    start = asyncio.create_task(service.ask("POST", "/api/kernels"))

    async def is_launching() -> bool:
        return len(engine.requests) == 2

    await eventually(is_launching)
    engine.is_down = True
    engine.gate.set()
    assert (await start).status == 503
    agent = engine.agents[engine.requests[1].kernel_id]
    assert agent.calls == ["POST /v1/shutdown"]
    assert len(await service.get("/api/kernels")) == 1


async def test_limit_asks_for_the_order_within_a_second(
    engine: FakeEngine, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists of whole seconds, as Docker has them, would let the id decide who was first.

    A kernel that ends between the list and the question takes no place.
    """
    times = (99.8, 100.1, 100.5, 100.9, 102.0)
    exact = {
        str(index): Workload(str(index), "", "ann", WorkloadState.RUNNING, created)
        for index, created in enumerate(times)
    }

    async def whole_seconds() -> list[Workload]:
        return [replace(one, created=float(int(one.created))) for one in exact.values()]

    async def created(workload: Workload) -> float:
        if workload.kernel_id == "2":
            raise NotFoundError("gone")
        return exact[workload.kernel_id].created

    monkeypatch.setattr(engine, "list", whole_seconds)
    monkeypatch.setattr(engine, "created", created)
    kernels = Registry(service.live, SimpleNamespace(all=lambda: [engine]), EventBus())
    listed = await kernels.lookup.list_around(100.0)
    assert [one.created for one in listed] == [99.0, 100.1, 100.9, 102.0]
