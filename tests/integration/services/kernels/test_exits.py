"""Ends of kernels: deletion, death, tombstones, restarts of the dead."""

import asyncio
import socket
import time
import uuid
from dataclasses import replace

import aiohttp
import pytest
from harness.delays import change_delays
from harness.engines.fake_engine import FakeEngine, launches_of
from harness.gateways.service import ANSWER_SECONDS, Service, in_list, is_state, state_of
from harness.waiting import eventually

from enterprise_gateway.errors import LaunchError
from enterprise_gateway.services.processproxies.contract import (
    POOL_USERNAME,
    AgentEndpoint,
    Workload,
    WorkloadState,
)


async def test_delete_ends_the_kernel_gracefully_and_forgets_it(
    service: Service, engine: FakeEngine
) -> None:
    """The agent is asked first, then the workload is removed, then the kernel is unknown."""
    kernel_id = await service.start_kernel()
    agent = engine.agents[kernel_id]
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


async def test_delete_goes_on_when_its_client_leaves(service: Service, engine: FakeEngine) -> None:
    """Once begun, the kernel is ended even if no client waits for it."""
    kernel_id = await service.start_kernel()
    agent = engine.agents[kernel_id]
    agent.silence.clear()
    delete = asyncio.create_task(service.ask("DELETE", f"/api/kernels/{kernel_id}"))

    async def has_begun() -> bool:
        return agent.calls == ["POST /v1/shutdown"]

    await eventually(has_begun)
    delete.cancel()
    await asyncio.wait({delete})
    agent.silence.set()
    await eventually(lambda: is_state(service, kernel_id, "gone"))
    assert engine.removals == [kernel_id]


@pytest.mark.parametrize("told", ["by its agent", "by its agent's end", "by the engine"])
async def test_kernel_that_ends_on_request_is_forgotten(
    service: Service, engine: FakeEngine, told: str
) -> None:
    """After culling or a client's shutdown_request it is 404 at once, and never called dead."""
    kernel_id = await service.start_kernel()
    agent = engine.agents[kernel_id]
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


async def test_kernel_whose_process_stays_dead_can_be_restarted(
    service: Service, engine: FakeEngine
) -> None:
    """Its agent lives, so it is dead with a reason, and the agent restarts it."""
    kernel_id = await service.start_kernel()
    reason = {"message": "killed by SIGSEGV", "signal": "SIGSEGV"}
    engine.agents[kernel_id].change(execution_state="dead", reason=reason)
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


async def test_kernel_that_dies_is_remembered_with_its_reason(
    service: Service, engine: FakeEngine
) -> None:
    """It is dead and says why; interrupting it is a conflict; DELETE removes it."""
    kernel_id = await service.start_kernel()
    await engine.kill(kernel_id, "exit code 137 (out of memory)")
    await eventually(lambda: is_state(service, kernel_id, "dead"))
    model = await service.get(f"/api/kernels/{kernel_id}")
    assert model["reason"] == "the kernel's workload ended: exit code 137 (out of memory)"
    assert await service.get("/api/kernels") == [in_list(model)]
    assert (await service.ask("POST", f"/api/kernels/{kernel_id}/interrupt")).status == 409
    assert (await service.ask("POST", "/api/kernels", json={"kernel_id": kernel_id})).status == 409
    assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204
    assert (await service.ask("GET", f"/api/kernels/{kernel_id}")).status == 404


async def test_client_of_a_kernel_that_died_in_a_cell_learns_why(
    service: Service, engine: FakeEngine
) -> None:
    """The agent has told which requests are open, and cannot answer them any more."""
    kernel_id = await service.start_kernel()
    header = {"msg_id": "cell", "msg_type": "execute_request", "session": "s"}
    requests = [{"channel": "shell", "header": header}]
    engine.agents[kernel_id].change(execution_state="busy", requests=requests)
    await eventually(lambda: is_state(service, kernel_id, "busy"))
    await engine.kill(kernel_id, "exit code 137 (killed)")
    await eventually(lambda: is_state(service, kernel_id, "dead"))
    async with service.http.ws_connect(f"/api/kernels/{kernel_id}/channels") as client:
        error = await client.receive_json(timeout=ANSWER_SECONDS)
        assert error["parent_header"] == header
        assert "exit code 137 (killed)" in error["content"]["evalue"]
        assert (await service.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200
        while (await client.receive(timeout=ANSWER_SECONDS)).type is not aiohttp.WSMsgType.CLOSE:
            pass


async def test_final_state_of_the_agent_is_the_reason(service: Service, engine: FakeEngine) -> None:
    """The agent's reason goes before the engine's."""
    kernel_id = await service.start_kernel()
    engine.agents[kernel_id].end({"message": "killed by SIGKILL", "signal": "SIGKILL"})
    await engine.kill(kernel_id, "exit code 1")
    await eventually(lambda: is_state(service, kernel_id, "dead"))
    model = await service.get(f"/api/kernels/{kernel_id}")
    assert model["reason"] == "killed by SIGKILL"


async def test_dead_kernel_is_launched_again_under_its_id(
    service: Service, engine: FakeEngine
) -> None:
    """Restart makes a new workload with the same environment; sessions move to it.

    Its image is looked for once: with the policy `Always` that is a request to a registry.
    """
    kernel_id = await service.start_kernel(env={"KERNEL_X": "1"})
    session = {"path": "a.ipynb", "type": "notebook", "name": "a", "kernel": {"id": kernel_id}}
    assert (await service.ask("POST", "/api/sessions", json=session)).status == 201
    await engine.kill(kernel_id, "exit code 139")
    await eventually(lambda: is_state(service, kernel_id, "dead"))
    answer = await service.ask("POST", f"/api/kernels/{kernel_id}/restart")
    assert answer.status == 200
    assert answer.body["execution_state"] == "idle"
    assert "reason" not in answer.body
    first, second = launches_of(engine)
    assert first == second
    assert engine.prepared == 2
    assert [one["path"] for one in await service.get("/api/sessions")] == ["a.ipynb"]


async def test_dead_kernel_that_cannot_be_launched_again_stays_dead(
    service: Service, engine: FakeEngine
) -> None:
    """The answer has the failure, and the next restart may succeed."""
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


async def test_dead_kernel_stays_while_its_image_is_pulled(
    service: Service, engine: FakeEngine
) -> None:
    """A restart that gives up waiting leaves it, with its reason, and the next one may succeed."""
    engine.keeps_dead = True
    kernel_id = await service.start_kernel(env={"KERNEL_LAUNCH_TIMEOUT": "1"})
    await engine.kill(kernel_id, "exit code 139")
    await eventually(lambda: is_state(service, kernel_id, "dead"))
    engine.pulls.clear()
    answer = await service.ask("POST", f"/api/kernels/{kernel_id}/restart")
    assert answer.status == 503
    assert (await service.get(f"/api/kernels/{kernel_id}"))["reason"].endswith("exit code 139")
    assert [workload.kernel_id for workload in await engine.list()] == [kernel_id]
    engine.pulls.set()
    assert (await service.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200


async def test_dead_kernel_removed_before_its_final_state_is_gone(
    service: Service, engine: FakeEngine
) -> None:
    """News of death and removal arrive together, as after a lost connection to the engine."""
    kernel_id = await service.start_kernel()
    running = await engine.observe(kernel_id)
    assert running is not None
    dead = replace(running, state=WorkloadState.DEAD, exit_reason="exit code 1", is_tombstone=True)
    await engine.forget(kernel_id)
    engine.tell(dead)
    engine.tell(replace(dead, state=WorkloadState.GONE))
    await eventually(lambda: is_state(service, kernel_id, "gone"))


async def test_living_kernel_removed_elsewhere_is_gone(
    service: Service, engine: FakeEngine
) -> None:
    """As one that another replica ended by force: that is no death."""
    kernel_id = await service.start_kernel()
    await engine.kill(kernel_id, "exit code 0")
    await eventually(lambda: is_state(service, kernel_id, "gone"))


async def test_stale_tombstone_of_a_failed_start_is_removed(
    service: Service, engine: FakeEngine
) -> None:
    """Its launcher has had the time to read its log, or has died."""
    change_delays(service.live, stale_tombstone_seconds=0.1)
    engine.keeps_dead = True
    kernel_id = str(uuid.uuid4())
    starting = Workload(kernel_id, "", "ann", WorkloadState.STARTING, time.time())
    engine.announce(starting)
    dead = replace(starting, state=WorkloadState.DEAD, exit_reason="exit code 1", is_tombstone=True)
    engine.announce(dead)

    async def is_removed() -> bool:
        return engine.removals == [kernel_id]

    await eventually(is_removed)
    assert await service.get("/api/kernels") == []


async def test_kernel_whose_agent_never_answered_may_have_been_ready(
    service: Service, engine: FakeEngine
) -> None:
    """Another replica may have answered a client with it, so it is dead, and not unknown."""
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


async def test_kernel_may_be_taken_and_die_unseen(service: Service, engine: FakeEngine) -> None:
    """While the engine was away, with another replica: its user learns why, as of any other."""
    kernel_id = str(uuid.uuid4())
    with socket.socket() as agent:
        agent.bind(("127.0.0.1", 0))
        agent.listen()
        endpoint = AgentEndpoint("127.0.0.1", agent.getsockname()[1])
        waiting = Workload(
            kernel_id, "", POOL_USERNAME, WorkloadState.RUNNING, time.time(), endpoint, pool="p"
        )
        engine.announce(waiting)
        await eventually(lambda: is_state(service, kernel_id, "gone"))
        dead = replace(waiting, state=WorkloadState.DEAD, endpoint=None, is_tombstone=True)
        engine.announce(replace(dead, username="ann", exit_reason="exit code 137 (killed)"))
        await eventually(lambda: is_state(service, kernel_id, "dead"))
