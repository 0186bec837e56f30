"""Kernels and their engines: unknown ids, engines that do not answer."""

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import UNKNOWN_ID, Service, is_state, serve_settings, state_of
from harness.waiting import eventually

from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.kernels.registry import links
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.processproxies.contract import Workload
from enterprise_gateway.settings import DockerSettings, LiveSettings


async def test_unknown_kernel_costs_one_call_and_is_not_found(
    service: Service, engine: FakeEngine
) -> None:
    """404 for every verb; the engine is asked once each time."""
    for method, suffix in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/interrupt"),
        ("POST", "/restart"),
    ):
        engine.observations.clear()
        answer = await service.ask(method, f"/api/kernels/{UNKNOWN_ID}{suffix}")
        assert answer.status == 404
        assert answer.message == f"Kernel does not exist: {UNKNOWN_ID}"
        assert engine.observations == [UNKNOWN_ID]


async def test_malformed_kernel_id_is_not_looked_up(service: Service, engine: FakeEngine) -> None:
    """No engine is asked about what cannot be a kernel."""
    for text in ("x", "..%2F..%2Fetc", UNKNOWN_ID.replace("0", "g"), "%00", "a" * 5000):
        answer = await service.ask("GET", f"/api/kernels/{text}")
        assert answer.status == 404, text
    assert not engine.observations


async def test_silent_engine_is_unavailable_and_never_not_found(
    service: Service, engine: FakeEngine
) -> None:
    """503 with Retry-After for what might be there; known kernels go on."""
    kernel_id = await service.start_kernel()
    engine.is_down = True
    answer = await service.ask("GET", f"/api/kernels/{UNKNOWN_ID}")
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert await state_of(service, kernel_id) == "idle"
    assert [model["id"] for model in await service.get("/api/kernels")] == [kernel_id]
    assert (await service.ask("POST", "/api/kernels")).status == 503


async def test_running_kernels_need_no_engine(service: Service, engine: FakeEngine) -> None:
    """What agents can do is done; the rest is 503 until the engine is back."""
    kernel_id = await service.start_kernel()
    dead = await service.start_kernel()
    await engine.kill(dead, "exit code 139")
    await eventually(lambda: is_state(service, dead, "dead"))
    session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    made = (await service.ask("POST", "/api/sessions", json=session)).body
    engine.is_down = True
    one, tied = f"/api/kernels/{kernel_id}", f"/api/sessions/{made['id']}"
    new = {"path": "b.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    requests: list[tuple[str, str, Any, int]] = [
        ("GET", "/api/kernels", None, 200),
        ("GET", one, None, 200),
        ("GET", f"/api/kernels/{dead}", None, 200),
        ("GET", f"/api/kernels/{UNKNOWN_ID}", None, 503),
        ("POST", f"{one}/interrupt", None, 204),
        ("POST", f"{one}/restart", None, 200),
        ("POST", f"/api/kernels/{dead}/restart", None, 503),
        ("DELETE", f"/api/kernels/{dead}", None, 503),
        ("DELETE", f"/api/kernels/{UNKNOWN_ID}", None, 503),
        ("POST", "/api/kernels", {}, 503),
        ("GET", "/api/sessions", None, 200),
        ("POST", "/api/sessions", session, 201),
        ("POST", "/api/sessions", new, 503),
        ("GET", tied, None, 200),
        ("PATCH", tied, {"name": "b"}, 200),
        ("PATCH", tied, {"kernel": {"name": "python3"}}, 503),
        ("GET", "/api/kernelspecs", None, 200),
        ("GET", "/api/status", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/healthz", None, 200),
        ("GET", "/readyz", None, 503),
        ("DELETE", tied, None, 204),
        ("GET", one, None, 503),
    ]
    for method, path, body, status in requests:
        answer = await service.ask(method, path, json=body)
        assert answer.status == status, (method, path, answer.raw)
        assert ("Retry-After" in answer.headers) is (status == 503)
    engine.is_down = False
    assert await state_of(service, kernel_id) == "gone"
    assert (await service.ask("POST", f"/api/kernels/{dead}/restart")).status == 200
    assert (await service.ask("GET", "/readyz")).status == 200


async def test_engine_that_never_answered_is_optional(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """Without Docker the gateway works; with a Docker host in the settings it complains."""
    engine.is_down = True
    async with serve_settings(live) as service:
        assert await service.get("/api/kernels") == []
        assert (await service.ask("GET", f"/api/kernels/{UNKNOWN_ID}")).status == 404
        assert (await service.ask("GET", "/readyz")).status == 200
        live.replace(replace(live.current, docker=DockerSettings(host="tcp://docker:2375")))
        assert (await service.ask("GET", "/api/kernels")).status == 503
        assert (await service.ask("GET", f"/api/kernels/{UNKNOWN_ID}")).status == 503
        assert "the engine is down" in (await service.ask("GET", "/readyz")).message
        engine.is_down = False
        assert await service.get("/api/kernels") == []
        assert (await service.ask("GET", "/readyz")).status == 200


async def test_kernel_that_one_engine_has_needs_no_other(
    live: LiveSettings, engine: FakeEngine, tmp_path: Path
) -> None:
    """Local kernels need no Docker engine."""
    away = FakeEngine(live, tmp_path)
    proxies = SimpleNamespace(all=lambda: [engine, away])
    kernels = Registry(live, proxies, EventBus())
    await kernels.lookup.list_around(0.0)
    away.is_down = True
    kernel_id = str(uuid.uuid4())
    async with serve_settings(live) as service:
        await service.start_kernel(kernel_id=kernel_id)
        assert (await kernels.find(kernel_id)).kernel_id == kernel_id
    await kernels.close()


async def test_requests_at_once_for_what_is_unknown_ask_all_engines_together(
    live: LiveSettings, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are; what was there before a request is found for it."""
    kernels = Registry(live, SimpleNamespace(all=lambda: [engine]), EventBus())
    rounds, gate, listed = [0], asyncio.Event(), engine.list

    async def list_late() -> list[Workload]:
        rounds[0] += 1
        workloads = await listed()
        await gate.wait()
        return workloads

    monkeypatch.setattr(engine, "list", list_late)
    first = asyncio.create_task(kernels.refresh_all())
    await eventually(lambda: rounds[0])
    async with serve_settings(live) as service:
        kernel_id = await service.start_kernel()
        later = [asyncio.create_task(kernels.refresh_all()) for _ in range(100)]
        await asyncio.sleep(0)
        rounds[0] = 1
        later[0].cancel()
        gate.set()
        await first
        await asyncio.gather(*later[1:])
        assert rounds[0] == 2
        assert kernels.get(kernel_id) is not None
    await kernels.close()


async def test_agent_that_waits_for_its_turn_to_be_asked_is_not_late(
    live: LiveSettings, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A healthy agent would be treated as a silent one after a flood of requests."""
    monkeypatch.setattr(links, "MAX_CONCURRENT_REFRESHES", 1)
    kernels = Registry(live, SimpleNamespace(all=lambda: [engine]), EventBus())
    async with serve_settings(live) as service:
        records = [await kernels.find(await service.start_kernel()) for _ in range(2)]
        for record in records:
            await record.is_known.wait()
        silent, healthy = (engine.agents[record.kernel_id] for record in records)
        silent.silence.clear()
        healthy.state["connections"] = 3  # its event stream does not tell
        await kernels.refresh_states(records)
        assert records[1].state is not None
        assert records[1].state.connections == 3
        assert [record.agent and record.agent.is_failing for record in records] == [True, False]
        silent.silence.set()
    await kernels.close()
