"""`/api/kernels` over HTTP, with fake agents: status codes, models, failures."""

import asyncio
import functools
import re
import socket
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from harness import fake_engine
from harness.fake_agent import FakeAgent
from harness.fake_engine import FakeEngine
from harness.service import Service, eventually, serve_settings

from enterprise_gateway.errors import LaunchError, LaunchTimeoutError, NotFoundError
from enterprise_gateway.services.kernels import agent as agent_module
from enterprise_gateway.services.kernels import deaths, fate
from enterprise_gateway.services.kernels.registry import Registry
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    Workload,
    WorkloadState,
)
from enterprise_gateway.settings import CullingSettings, DockerSettings, LiveSettings

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def agent_of(engine: FakeEngine, kernel_id: str) -> FakeAgent:
    """Return a kernel's agent."""
    return engine.agents[kernel_id]


async def state_of(service: Service, kernel_id: str) -> str:
    """Return a kernel's execution state, "gone" if there is no such kernel."""
    answer = await service.ask("GET", f"/api/kernels/{kernel_id}")
    return str(answer.body["execution_state"]) if answer.status == 200 else "gone"


async def is_state(service: Service, kernel_id: str, wanted: str) -> bool:
    """Say whether a kernel is in a state."""
    return await state_of(service, kernel_id) == wanted


async def test_start_answers_the_model_and_its_place(service: Service) -> None:
    """201, Location and a model that every client can parse."""
    answer = await service.ask("POST", "/api/kernels")
    model = answer.body
    assert answer.status == 201
    assert answer.headers["Location"] == f"/api/kernels/{model['id']}"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert str(uuid.UUID(model["id"])) == model["id"]
    assert model["name"] == "python3"
    assert model["execution_state"] == "idle"
    assert model["connections"] == 0
    assert TIME.fullmatch(model["last_activity"])
    assert "reason" not in model
    assert await service.get(f"/api/kernels/{model['id']}") == model
    assert await service.get("/api/kernels") == [model]


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"path": null}', b'{"env": null}'])
async def test_start_needs_no_body(service: Service, body: bytes) -> None:
    """Without a name it is the default kernel."""
    headers = {"Content-Type": "application/json"}
    answer = await service.ask("POST", "/api/kernels", data=body, headers=headers)
    assert answer.status == 201
    assert answer.body["name"] == "python3"


async def test_start_takes_the_clients_id_in_both_forms(
    service: Service, engine: FakeEngine
) -> None:
    """`kernel_id` and `KERNEL_ID` name the kernel; a taken one is a conflict."""
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    assert await service.start_kernel(kernel_id=first) == first
    assert await service.start_kernel(env={"KERNEL_ID": second}) == second
    for body in ({"kernel_id": first}, {"env": {"KERNEL_ID": first}}):
        answer = await service.ask("POST", "/api/kernels", json=body)
        assert answer.status == 409
        assert first in answer.message
    assert len(engine.requests) == 2


async def test_start_with_an_id_that_is_being_started_is_a_conflict(
    service: Service, engine: FakeEngine
) -> None:
    """Two starts of one id at once: one kernel."""
    kernel_id = str(uuid.uuid4())
    engine.gate.clear()
    first = asyncio.create_task(service.start_kernel(kernel_id=kernel_id))
    await eventually(lambda: is_state(service, kernel_id, "starting"))
    second = await service.ask("POST", "/api/kernels", json={"kernel_id": kernel_id})
    deleted = await service.ask("DELETE", f"/api/kernels/{kernel_id}")
    engine.gate.set()
    assert await first == kernel_id
    assert second.status == deleted.status == 409


async def test_kernel_that_is_being_started_is_unavailable(
    service: Service, engine: FakeEngine
) -> None:
    """It is listed as starting, so nothing says that it does not exist."""
    kernel_id = str(uuid.uuid4())
    engine.gate.clear()
    start = asyncio.create_task(service.start_kernel(kernel_id=kernel_id))
    await eventually(lambda: is_state(service, kernel_id, "starting"))
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    answers = [
        await service.ask("POST", f"/api/kernels/{kernel_id}/interrupt"),
        await service.ask("GET", f"/api/kernels/{kernel_id}/channels", headers=upgrade),
        await service.ask("POST", "/api/sessions", json=session),
    ]
    engine.gate.set()
    assert await start == kernel_id
    assert [answer.status for answer in answers] == [503, 503, 503]
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}


async def test_environment_reaches_the_launch(service: Service, engine: FakeEngine) -> None:
    """What the client may set is there, the rest of its wishes is not."""
    await service.start_kernel(env={"KERNEL_X": "a$b", "OTHER": "x", "KERNEL_USERNAME": "ann"})
    env = engine.requests[0].env
    assert env["KERNEL_X"] == "a$b"
    assert env["KERNEL_USERNAME"] == "ann"
    assert "OTHER" not in env
    assert "PATH" not in env


async def test_concurrent_starts_do_not_mix_their_environments(
    service: Service, engine: FakeEngine
) -> None:
    """Each kernel has the environment of its own request, and a request without any has none."""
    engine.gate.clear()
    starts = [
        asyncio.create_task(service.start_kernel(env={"KERNEL_X": str(n)} if n else {}))
        for n in range(8)
    ]

    async def all_there() -> bool:
        return len(engine.requests) == len(starts)

    await eventually(all_there)
    engine.gate.set()
    ids = await asyncio.gather(*starts)
    seen = {request.kernel_id: request.env.get("KERNEL_X") for request in engine.requests}
    assert [seen[kernel_id] for kernel_id in ids] == [None, *(str(n) for n in range(1, 8))]


async def test_unknown_kernelspec_is_not_found(service: Service) -> None:
    """404 with the name, not a server error."""
    answer = await service.ask("POST", "/api/kernels", json={"name": "no-such"})
    assert answer.status == 404
    assert answer.message == "Kernel spec no-such not found"


async def test_unauthorized_user_is_refused(service: Service, engine: FakeEngine) -> None:
    """403 in EG's words, and nothing is launched."""
    answer = await service.ask("POST", "/api/kernels", json={"env": {"KERNEL_USERNAME": "root"}})
    assert answer.status == 403
    assert answer.message.startswith("User 'root' is not authorized to start kernel")
    assert not engine.requests


@pytest.mark.parametrize(
    "failure", [LaunchError("image x: not found"), LaunchTimeoutError("not ready in 30 s")]
)
async def test_failed_start_says_why_and_leaves_nothing(
    service: Service, engine: FakeEngine, failure: Exception
) -> None:
    """500 with the cause; no kernel is listed, dead or alive."""
    engine.failure = failure
    answer = await service.ask("POST", "/api/kernels")
    assert answer.status == 500
    assert answer.message == str(failure)
    assert await service.get("/api/kernels") == []


async def test_start_of_a_client_that_leaves_is_cancelled(
    service: Service, engine: FakeEngine
) -> None:
    """The launch is cancelled with the request, and no kernel is left."""
    engine.gate.clear()
    start = asyncio.create_task(service.start_kernel())

    async def is_launching() -> bool:
        return bool(engine.requests)

    async def is_cancelled() -> bool:
        return engine.cancelled == 1

    await eventually(is_launching)
    start.cancel()
    await eventually(is_cancelled)
    assert await service.get("/api/kernels") == []


async def test_unknown_kernel_costs_one_look_and_is_not_found(
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
        answer = await service.ask(method, f"/api/kernels/{UNKNOWN}{suffix}")
        assert answer.status == 404
        assert answer.message == f"Kernel does not exist: {UNKNOWN}"
        assert engine.observations == [UNKNOWN]


async def test_what_is_no_kernel_id_is_not_looked_up(service: Service, engine: FakeEngine) -> None:
    """No engine is asked about what cannot be a kernel."""
    for text in ("x", "..%2F..%2Fetc", UNKNOWN.replace("0", "g"), "%00", "a" * 5000):
        answer = await service.ask("GET", f"/api/kernels/{text}")
        assert answer.status == 404, text
    assert not engine.observations


async def test_silent_engine_is_unavailable_and_never_not_found(
    service: Service, engine: FakeEngine
) -> None:
    """503 with Retry-After for what might be there; known kernels go on."""
    kernel_id = await service.start_kernel()
    engine.is_down = True
    answer = await service.ask("GET", f"/api/kernels/{UNKNOWN}")
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert await state_of(service, kernel_id) == "idle"
    assert [model["id"] for model in await service.get("/api/kernels")] == [kernel_id]
    assert (await service.ask("POST", "/api/kernels")).status == 503


async def test_engine_that_is_away_keeps_nobody_from_running_kernels(
    service: Service, engine: FakeEngine
) -> None:
    """Whatever a kernel's agent can do is done; the rest is 503 and comes back with the engine."""
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
        ("GET", f"/api/kernels/{UNKNOWN}", None, 503),
        ("POST", f"{one}/interrupt", None, 204),
        ("POST", f"{one}/restart", None, 200),
        ("POST", f"/api/kernels/{dead}/restart", None, 503),
        ("DELETE", f"/api/kernels/{dead}", None, 503),
        ("DELETE", f"/api/kernels/{UNKNOWN}", None, 503),
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


async def test_engine_that_never_answered_does_not_count(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """Without Docker the gateway works; with a Docker host in the settings it complains."""
    engine.is_down = True
    async with serve_settings(live) as service:
        assert await service.get("/api/kernels") == []
        assert (await service.ask("GET", f"/api/kernels/{UNKNOWN}")).status == 404
        assert (await service.ask("GET", "/readyz")).status == 200
        live.replace(replace(live.current, docker=DockerSettings(host="tcp://docker:2375")))
        assert (await service.ask("GET", "/api/kernels")).status == 503
        assert (await service.ask("GET", f"/api/kernels/{UNKNOWN}")).status == 503
        assert "the engine is down" in (await service.ask("GET", "/readyz")).message
        engine.is_down = False
        assert await service.get("/api/kernels") == []
        assert (await service.ask("GET", "/readyz")).status == 200


async def test_model_follows_the_agent(service: Service, engine: FakeEngine) -> None:
    """State, activity and connections are those of the agent, without polling it."""
    kernel_id = await service.start_kernel()
    agent_of(engine, kernel_id).change(
        execution_state="busy", connections=3, last_activity="2027-01-02T03:04:05.000000Z"
    )
    await eventually(lambda: is_state(service, kernel_id, "busy"))
    model = (await service.get("/api/kernels"))[0]
    assert model["connections"] == 3
    assert model["last_activity"] == "2027-01-02T03:04:05.000000Z"


async def test_silent_agent_is_unavailable(service: Service, engine: FakeEngine) -> None:
    """A kernel whose agent cannot be reached is 503, not gone, while its workload lives."""
    kernel_id = await service.start_kernel()
    agent = agent_of(engine, kernel_id)
    await agent.stop()

    async def is_unavailable() -> bool:
        return (await service.ask("GET", f"/api/kernels/{kernel_id}")).status == 503

    await eventually(is_unavailable)
    answer = await service.ask("POST", f"/api/kernels/{kernel_id}/interrupt")
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert (await service.get("/api/kernels"))[0]["id"] == kernel_id
    assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204


async def test_agent_that_talks_nonsense_is_unavailable(
    service: Service, engine: FakeEngine
) -> None:
    """What an agent must not say is no state; when it comes to its senses all is well again."""
    kernel_id = await service.start_kernel()
    agent = agent_of(engine, kernel_id)
    agent.change(execution_state=5)

    async def is_unavailable() -> bool:
        return (await service.ask("GET", f"/api/kernels/{kernel_id}")).status == 503

    await eventually(is_unavailable)
    agent.change(execution_state="idle")
    await eventually(lambda: is_state(service, kernel_id, "idle"))


async def test_kernel_whose_process_stays_dead_can_be_restarted(
    service: Service, engine: FakeEngine
) -> None:
    """Its agent lives, so it is dead with a reason, and the agent restarts it."""
    kernel_id = await service.start_kernel()
    reason = {"message": "killed by SIGSEGV", "signal": "SIGSEGV"}
    agent_of(engine, kernel_id).change(execution_state="dead", reason=reason)
    await eventually(lambda: is_state(service, kernel_id, "dead"))
    model = await service.get(f"/api/kernels/{kernel_id}")
    assert model["reason"] == "killed by SIGSEGV"
    interrupt = await service.ask("POST", f"/api/kernels/{kernel_id}/interrupt")
    assert interrupt.status == 409
    assert interrupt.message == "it is dead"
    restart = await service.ask("POST", f"/api/kernels/{kernel_id}/restart")
    assert restart.status == 200
    assert restart.body["execution_state"] == "idle"
    assert len(engine.requests) == 1


async def test_interrupt_and_restart_are_the_agents(service: Service, engine: FakeEngine) -> None:
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
    calls = agent_of(engine, kernel_id).calls
    assert calls == ["POST /v1/interrupt", "POST /v1/restart"] * 2


async def test_delete_ends_the_kernel_gracefully_and_forgets_it(
    service: Service, engine: FakeEngine
) -> None:
    """The agent is asked first, then the workload is removed, then the kernel is unknown."""
    kernel_id = await service.start_kernel()
    agent = agent_of(engine, kernel_id)
    assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204
    assert agent.calls == ["POST /v1/shutdown"]
    assert engine.removals == [kernel_id]
    assert (await service.ask("GET", f"/api/kernels/{kernel_id}")).status == 404
    assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 404
    assert await service.start_kernel(kernel_id=kernel_id) == kernel_id


async def test_concurrent_deletes_are_one(service: Service, engine: FakeEngine) -> None:
    """All of them answer when the kernel has ended."""
    kernel_id = await service.start_kernel()
    answers = await asyncio.gather(
        *(service.ask("DELETE", f"/api/kernels/{kernel_id}") for _ in range(5))
    )
    assert {answer.status for answer in answers} <= {204, 404}
    assert 204 in {answer.status for answer in answers}
    assert engine.removals == [kernel_id]


async def test_delete_of_a_client_that_leaves_comes_to_its_end(
    service: Service, engine: FakeEngine
) -> None:
    """Once begun, the kernel is ended whoever waits for it."""
    kernel_id = await service.start_kernel()
    agent = agent_of(engine, kernel_id)
    agent.silence.clear()
    delete = asyncio.create_task(service.ask("DELETE", f"/api/kernels/{kernel_id}"))
    await asyncio.wait({delete}, timeout=0.1)
    delete.cancel()
    await asyncio.wait({delete})
    agent.silence.set()
    await eventually(lambda: is_state(service, kernel_id, "gone"))
    assert engine.removals == [kernel_id]


@pytest.mark.parametrize("told", ["by its agent", "by its agent's end", "by the engine"])
async def test_kernel_that_ends_on_purpose_is_forgotten(
    service: Service, engine: FakeEngine, told: str
) -> None:
    """After culling or a client's shutdown_request it is 404 at once, and never called dead."""
    kernel_id = await service.start_kernel()
    agent = agent_of(engine, kernel_id)
    agent.change(execution_state="terminating")
    await eventually(lambda: is_state(service, kernel_id, "terminating"))
    if told == "by its agent":
        agent.change(execution_state="dead")
    elif told == "by its agent's end":
        agent.end()
    else:
        await engine.kill(kernel_id, "exit code 0")
    seen = set()

    async def is_gone() -> bool:
        answer = await service.ask("GET", f"/api/kernels/{kernel_id}")
        seen.add(answer.body.get("execution_state"))
        return answer.status == 404

    await eventually(is_gone)
    assert seen <= {"terminating", None}
    assert await service.get("/api/kernels") == []


async def test_kernel_that_dies_is_remembered_with_its_reason(
    service: Service, engine: FakeEngine
) -> None:
    """It is dead and says why; interrupting it is a conflict; DELETE removes it."""
    kernel_id = await service.start_kernel()
    await engine.kill(kernel_id, "exit code 137 (out of memory)")
    await eventually(lambda: is_state(service, kernel_id, "dead"))
    model = await service.get(f"/api/kernels/{kernel_id}")
    assert model["reason"] == "the kernel's workload ended: exit code 137 (out of memory)"
    assert await service.get("/api/kernels") == [model]
    assert (await service.ask("POST", f"/api/kernels/{kernel_id}/interrupt")).status == 409
    assert (await service.ask("POST", "/api/kernels", json={"kernel_id": kernel_id})).status == 409
    assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204
    assert (await service.ask("GET", f"/api/kernels/{kernel_id}")).status == 404


async def test_agents_last_words_are_the_reason(service: Service, engine: FakeEngine) -> None:
    """What the agent knows goes before what the engine knows."""
    kernel_id = await service.start_kernel()
    agent_of(engine, kernel_id).end({"message": "killed by SIGKILL", "signal": "SIGKILL"})
    await engine.kill(kernel_id, "exit code 1")
    await eventually(lambda: is_state(service, kernel_id, "dead"))
    model = await service.get(f"/api/kernels/{kernel_id}")
    assert model["reason"] == "killed by SIGKILL"


async def test_dead_kernel_is_launched_again_under_its_id(
    service: Service, engine: FakeEngine
) -> None:
    """Restart makes a new workload with the same environment; sessions move to it."""
    kernel_id = await service.start_kernel(env={"KERNEL_X": "1"})
    session = {"path": "a.ipynb", "type": "notebook", "name": "a", "kernel": {"id": kernel_id}}
    assert (await service.ask("POST", "/api/sessions", json=session)).status == 201
    await engine.kill(kernel_id, "exit code 139")
    await eventually(lambda: is_state(service, kernel_id, "dead"))
    answer = await service.ask("POST", f"/api/kernels/{kernel_id}/restart")
    assert answer.status == 200
    assert answer.body["execution_state"] == "idle"
    assert "reason" not in answer.body
    first, second = engine.requests
    assert first == second
    assert [one["path"] for one in await service.get("/api/sessions")] == ["a.ipynb"]


async def test_kernel_that_no_agent_can_restart_is_launched_again(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """Through whichever gateway process; id, environment and sessions stay, as with a dead one."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel(env={"KERNEL_X": "1"})
        session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
        assert (await one.ask("POST", "/api/sessions", json=session)).status == 201
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "idle"))
            engine.age(kernel_id, 10.0)
            agent = agent_of(engine, kernel_id)
            agent.is_companion = True
            restart = await service.ask("POST", f"/api/kernels/{kernel_id}/restart")
            assert restart.status == 200, restart.raw
            assert restart.body["execution_state"] == "idle"
            assert agent.calls[-1] == "POST /v1/restart"
            assert agent_of(engine, kernel_id) is not agent
        first, *others = engine.requests
        assert others == [first, first]
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "idle"))
            assert [each["path"] for each in await service.get("/api/sessions")] == ["a.ipynb"]


async def test_dead_kernel_that_cannot_be_launched_again_stays_dead(
    service: Service, engine: FakeEngine
) -> None:
    """The failure is told, and the next restart may succeed."""
    kernel_id = await service.start_kernel()
    await engine.kill(kernel_id, "exit code 139")
    await eventually(lambda: is_state(service, kernel_id, "dead"))
    engine.failure = LaunchError("no memory left")
    answer = await service.ask("POST", f"/api/kernels/{kernel_id}/restart")
    assert answer.status == 500
    assert answer.message == "no memory left"
    assert await state_of(service, kernel_id) == "dead"
    engine.failure = None
    assert (await service.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200


async def test_next_gateway_process_finds_the_kernels(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """With its first answer it knows state, name and sessions, and can do everything to them."""
    async with serve_settings(live) as first:
        kernel_id = await first.start_kernel()
        session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
        assert (await first.ask("POST", "/api/sessions", json=session)).status == 201
        agent_of(engine, kernel_id).change(execution_state="busy")
    async with serve_settings(live) as second:
        (model,) = await second.get("/api/kernels")
        assert model["id"] == kernel_id
        assert model["name"] == "python3"
        assert model["execution_state"] == "busy"
        assert [one["path"] for one in await second.get("/api/sessions")] == ["a.ipynb"]
        assert (await second.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200


async def test_any_gateway_process_launches_a_dead_kernel_again(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """With its user, environment and sessions, though another one launched it."""
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
        first, second = engine.requests
        assert first == second
        await eventually(lambda: is_state(one, kernel_id, "idle"))
        for service in (one, other):
            assert [each["path"] for each in await service.get("/api/sessions")] == ["a.ipynb"]


async def test_restart_of_a_dead_kernel_joins_that_of_another_gateway_process(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """Whoever comes second finds it running, and does not launch it once more."""
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


async def test_dead_kernel_is_launched_once_by_two_gateway_processes(
    engine: FakeEngine, live: LiveSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is not the first waits for the other's kernel, and leaves it alone."""
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


async def test_dead_kernel_deleted_through_another_gateway_process_is_gone(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """What the engine keeps of it is what all remember it by, also one that starts only now."""
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


async def test_dead_kernel_removed_before_its_last_words_is_gone(
    service: Service, engine: FakeEngine
) -> None:
    """Death and removal are told at once, as after a time without a connection to the engine."""
    kernel_id = await service.start_kernel()
    running = await engine.observe(kernel_id)
    assert running is not None
    dead = replace(running, state=WorkloadState.DEAD, exit_reason="exit code 1", is_tombstone=True)
    await engine.forget(kernel_id)
    engine.tell(dead)
    engine.tell(replace(dead, state=WorkloadState.GONE))
    await eventually(lambda: is_state(service, kernel_id, "gone"))


async def test_living_kernel_removed_by_somebody_is_gone(
    service: Service, engine: FakeEngine
) -> None:
    """As one that another gateway process ended by force: this is no death to tell of."""
    kernel_id = await service.start_kernel()
    await engine.kill(kernel_id, "exit code 0")
    await eventually(lambda: is_state(service, kernel_id, "gone"))


async def test_kernel_launched_again_outlives_the_news_of_its_death(
    engine: FakeEngine, live: LiveSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a workload says nothing about one that came after it."""
    monkeypatch.setattr(deaths, "LAST_WORDS_SECONDS", 0.5)
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel()
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        first = await engine.observe(kernel_id)
        assert first is not None
        later = time.time() + 10
        monkeypatch.setattr(fake_engine, "time", SimpleNamespace(time=lambda: later))
        # Its agent does not end: the other gateway waits for its last words.
        engine.announce(replace(first, state=WorkloadState.DEAD, exit_reason="exit code 1"))
        await eventually(lambda: is_state(one, kernel_id, "dead"))
        assert (await one.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200
        for service in (one, other):
            await eventually(functools.partial(is_state, service, kernel_id, "idle"))
        engine.tell(replace(first, state=WorkloadState.DEAD, exit_reason="exit code 1"))
        engine.tell(replace(first, state=WorkloadState.GONE))
        await one.start_kernel()  # as proof that the news has been taken in
        for service in (one, other):
            assert await is_state(service, kernel_id, "idle")


async def test_failed_workload_that_nobody_was_told_of_is_swept(
    service: Service, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever launched it may have died; who lives has had the time to read why it failed."""
    monkeypatch.setattr(deaths, "SWEEP_SECONDS", 0.1)
    engine.keeps_dead = True
    kernel_id = str(uuid.uuid4())
    starting = Workload(kernel_id, "", "ann", WorkloadState.STARTING, time.time())
    engine.announce(starting)
    dead = replace(starting, state=WorkloadState.DEAD, exit_reason="exit code 1", is_tombstone=True)
    engine.announce(dead)

    async def is_swept() -> bool:
        return engine.removals == [kernel_id]

    await eventually(is_swept)
    assert await service.get("/api/kernels") == []


async def test_kernel_whose_agent_was_never_heard_may_have_been_ready(
    service: Service, engine: FakeEngine
) -> None:
    """Another gateway process may have told a client of it, so it is dead, and not unknown."""
    kernel_id = str(uuid.uuid4())
    with socket.socket() as agent:
        agent.bind(("127.0.0.1", 0))
        agent.listen()
        endpoint = AgentEndpoint("127.0.0.1", agent.getsockname()[1])
        running = Workload(kernel_id, "", "ann", WorkloadState.RUNNING, time.time(), endpoint)
        engine.announce(running)
        dead = replace(running, state=WorkloadState.DEAD, endpoint=None, is_tombstone=True)
        engine.announce(replace(dead, exit_reason="exit code 137 (killed)"))
        await eventually(lambda: is_state(service, kernel_id, "dead"))


async def test_dead_kernel_of_unknown_origin_stays_dead(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """409 with what to do, if neither this gateway process nor the engine knows the launch."""
    engine.is_forgetful = True
    async with serve_settings(live) as one, serve_settings(live) as other:
        kernel_id = await one.start_kernel()
        await eventually(lambda: is_state(other, kernel_id, "idle"))
        await engine.kill(kernel_id, "exit code 1")
        await eventually(lambda: is_state(other, kernel_id, "dead"))
        answer = await other.ask("POST", f"/api/kernels/{kernel_id}/restart")
        assert answer.status == 409
        assert "start a new one" in answer.message


async def test_id_that_another_gateway_uses_again_is_found(
    engine: FakeEngine, live: LiveSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the kernel before it ended on purpose says nothing about this one."""
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


async def test_kernel_that_one_engine_has_needs_no_other(
    live: LiveSettings, engine: FakeEngine, tmp_path: Path
) -> None:
    """A Docker engine that is away keeps nobody from a local kernel."""
    away = FakeEngine(live, tmp_path)
    proxies = SimpleNamespace(all=lambda: [engine, away])
    kernels = Registry(live, proxies)
    await kernels.engines.list_around(0.0)
    away.is_down = True
    kernel_id = str(uuid.uuid4())
    async with serve_settings(live) as service:
        await service.start_kernel(kernel_id=kernel_id)
        assert (await kernels.find(kernel_id)).kernel_id == kernel_id
    await kernels.close()


async def test_listing_is_a_setting(live: LiveSettings, engine: FakeEngine) -> None:
    """Without `list_kernels` both lists are 403, from the next request on."""
    del engine
    async with serve_settings(live) as service:
        assert (await service.ask("GET", "/api/kernels")).status == 200
        access = replace(live.current.access, list_kernels=False)
        live.replace(replace(live.current, access=access))
        for path in ("/api/kernels", "/api/sessions"):
            answer = await service.ask("GET", path)
            assert answer.status == 403
            assert answer.body == {"reason": "Forbidden", "message": "Forbidden"}


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


@pytest.mark.parametrize("field", ["max_kernels", "max_kernels_per_user"])
async def test_limit_is_exact_across_gateway_processes(
    engine: FakeEngine, live: LiveSettings, field: str
) -> None:
    """Two gateways with ten starts each leave seven kernels, without talking to each other."""
    limit: dict[str, Any] = {field: 7}
    kernels = replace(live.current.kernels, **limit)
    live.replace(replace(live.current, kernels=kernels))
    async with serve_settings(live) as one, serve_settings(live) as other:
        answers = await asyncio.gather(
            *(service.ask("POST", "/api/kernels") for _ in range(10) for service in (one, other))
        )
        assert [answer.status for answer in answers].count(201) == 7
        assert len(engine.agents) == 7


async def test_start_that_cannot_be_checked_leaves_no_kernel(
    service: Service, engine: FakeEngine
) -> None:
    """The engine went away when the kernel was ready: its agent ends it, since nobody gets it."""
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
    agent = agent_of(engine, engine.requests[1].kernel_id)
    assert agent.calls == ["POST /v1/shutdown"]
    assert len(await service.get("/api/kernels")) == 1


async def test_limit_asks_for_the_order_within_a_second(
    engine: FakeEngine, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists of whole seconds, as Docker has them, would let the id decide who was first.

    What goes between list and question takes nobody's place.
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
    kernels = Registry(service.live, SimpleNamespace(all=lambda: [engine]))
    listed = await kernels.engines.list_around(100.0)
    assert [one.created for one in listed] == [99.0, 100.1, 100.9, 102.0]


async def test_new_culling_settings_reach_the_agents(service: Service, engine: FakeEngine) -> None:
    """A change of the settings is pushed to kernels that run already."""
    kernel_id = await service.start_kernel()
    culling = CullingSettings(cull_idle_timeout=123)
    kernels = replace(service.live.current.kernels, culling=culling)
    service.live.replace(replace(service.live.current, kernels=kernels))
    agent = agent_of(engine, kernel_id)

    async def is_told() -> bool:
        return bool(agent.bodies)

    await eventually(is_told)
    assert agent.bodies == [
        {
            "cull_idle_timeout": 123,
            "cull_interval": 300,
            "cull_connected": False,
            "cull_busy": False,
        }
    ]


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
    token = engine.requests[0].agent_token
    await agent_of(engine, kernel_id).stop()
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
    assert agent_of(engine, kernel_id).calls == []
    assert engine.removals == []


async def test_client_may_leave_while_anything_is_under_way(
    service: Service, engine: FakeEngine
) -> None:
    """Twenty clients that leave at random moments of their start leave nothing."""
    engine.gate.clear()
    timeout = aiohttp.ClientTimeout(total=0.05)

    async def leave() -> None:
        async with service.http.post("/api/kernels", timeout=timeout):
            pass

    results = await asyncio.gather(*(leave() for _ in range(20)), return_exceptions=True)
    assert all(isinstance(result, TimeoutError) for result in results)

    async def all_cancelled() -> bool:
        return engine.cancelled == len(engine.requests)

    await eventually(all_cancelled)
    engine.gate.set()
    assert await service.get("/api/kernels") == []
    assert not engine.agents


async def test_launch_elsewhere_is_listed_once_it_has_succeeded(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """Nobody lists a kernel that nobody has been given; who knows its id is told that it starts."""
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
    """No gateway process takes it for a kernel that died."""
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
async def test_failed_launch_does_not_hide_the_kernel_of_another_gateway_process(
    live: LiveSettings,
) -> None:
    """Two clients asked two gateway processes for the same id: both find the one that came up."""
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


async def test_kernel_that_another_gateway_process_launches_again_stays_listed(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """With its name and its sessions; a list without it would make clients forget it."""
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
async def test_delete_through_one_gateway_process_is_no_death_for_another(
    live: LiveSettings,
) -> None:
    """Also a kernel that goes since there are too many is gone for all of them."""
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


@pytest.mark.parametrize(
    ("listens", "reaches_others"), [(True, True), (False, True), (False, False)]
)
async def test_workload_without_an_agent_is_removed(
    engine: FakeEngine,
    live: LiveSettings,
    monkeypatch: pytest.MonkeyPatch,
    *,
    listens: bool,
    reaches_others: bool,
) -> None:
    """Nothing listens, so no client can use it. Who listens and says nothing is left alone.

    So are all if the gateway has never reached any: a firewall may refuse as well.
    """
    monkeypatch.setattr(fate, "ORPHAN_SECONDS", 0.5)
    monkeypatch.setattr(agent_module, "SILENCE_SECONDS", 0.1)
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

            async def is_looked_at() -> bool:
                return engine.observations.count(kernel_id) >= 6

            async def is_removed() -> bool:
                return engine.removals == [kernel_id]

            if listens or not reaches_others:
                await eventually(is_looked_at)
                assert engine.removals == []
            else:
                await eventually(is_removed)
                assert await state_of(service, kernel_id) == "gone"
