"""Real ipykernels behind a whole gateway, as local processes."""

import asyncio
import os
import signal
from contextlib import suppress

import aiohttp
import pytest
from harness.clients.json_channels import Channels
from harness.gateways.service import Service, serve_settings
from harness.waiting import eventually

from enterprise_gateway.settings import LiveSettings

pytestmark = pytest.mark.kernel


async def connect(service: Service, kernel_id: str, session_id: str = "s") -> Channels:
    """Open a WebSocket to a kernel; it is closed with the service's session."""
    path = f"/api/kernels/{kernel_id}/channels?session_id={session_id}"
    return Channels(await service.http.ws_connect(path), session_id)


async def has_state(service: Service, kernel_id: str, state: str) -> bool:
    """Say whether a kernel is in a state; "gone" is one."""
    answer = await service.ask("GET", f"/api/kernels/{kernel_id}")
    return state == (answer.body["execution_state"] if answer.status == 200 else "gone")


async def test_kernel_lives_through_everything(real_service: Service) -> None:
    """Executes, is interrupted, is restarted with its WebSocket open, is ended."""
    service = real_service
    kernel_id = await service.start_kernel(env={"KERNEL_X": "a b", "HIDDEN": "x"})
    channels = await connect(service, kernel_id)
    assert await channels.evaluate("1 + 1") == "2"
    env = await channels.evaluate("__import__('os').environ.get('KERNEL_X')")
    assert env == "'a b'"
    assert await channels.evaluate("'HIDDEN' in __import__('os').environ") == "False"
    assert await channels.evaluate("__import__('os').environ['KERNEL_GATEWAY']") == "'1'"

    async def is_counted() -> bool:
        return bool((await service.get(f"/api/kernels/{kernel_id}"))["connections"] == 1)

    await eventually(is_counted)

    msg_id = await channels.run("import time\nprint('go')\ntime.sleep(60)")
    await channels.receive("stream", msg_id)
    await eventually(lambda: has_state(service, kernel_id, "busy"))
    assert (await service.ask("POST", f"/api/kernels/{kernel_id}/interrupt")).status == 204
    assert (await channels.receive("error", msg_id))["ename"] == "KeyboardInterrupt"
    await channels.finish(msg_id)

    assert await channels.evaluate("(x := 1)") == "1"
    restart = await service.ask("POST", f"/api/kernels/{kernel_id}/restart")
    assert restart.status == 200
    assert restart.body["execution_state"] in {"idle", "starting"}
    assert await channels.evaluate("'x' in globals()") == "False"

    assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204
    assert (await service.ask("GET", f"/api/kernels/{kernel_id}")).status == 404


async def test_connections_are_right_at_once(real_service: Service) -> None:
    """As soon as a client is connected, or has disconnected, the kernel's model says so."""
    kernel_id = await real_service.start_kernel()
    path = f"/api/kernels/{kernel_id}"
    for turn in range(20):
        seen = [(await real_service.get(path))["connections"]]
        async with real_service.http.ws_connect(f"{path}/channels?session_id={turn}"):
            seen.append((await real_service.get(path))["connections"])
            async with real_service.http.ws_connect(f"{path}/channels?session_id=other"):
                seen.append((await real_service.get(path))["connections"])
            seen.append((await real_service.get(path))["connections"])
        seen.append((await real_service.get(path))["connections"])
        assert seen == [0, 1, 2, 1, 0], turn


async def test_kernel_that_a_client_shuts_down_is_gone(real_service: Service) -> None:
    """A shutdown_request through the WebSocket ends the kernel for good."""
    kernel_id = await real_service.start_kernel()
    channels = await connect(real_service, kernel_id)
    await channels.send("control", "shutdown_request", {"restart": False})
    await eventually(lambda: has_state(real_service, kernel_id, "gone"))
    assert await real_service.get("/api/kernels") == []


@pytest.mark.parametrize(
    ("signum", "reason"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGTERM, "told to stop")]
)
async def test_agent_that_is_killed_leaves_a_reason_and_can_be_started_again(
    real_service: Service, signum: signal.Signals, reason: str
) -> None:
    """Dead with a reason, restarted under the same id with the same environment."""
    service = real_service
    kernel_id = await service.start_kernel(env={"KERNEL_X": "kept"})
    channels = await connect(service, kernel_id)
    agent = int(await channels.evaluate("__import__('os').getppid()"))
    os.kill(agent, signum)
    await eventually(lambda: has_state(service, kernel_id, "dead"))
    assert reason in (await service.get(f"/api/kernels/{kernel_id}"))["reason"]
    refused = await service.ask("GET", f"/api/kernels/{kernel_id}/channels")
    assert refused.status in {400, 404}
    assert (await service.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200
    again = await connect(service, kernel_id)
    assert await again.evaluate("__import__('os').environ['KERNEL_X']") == "'kept'"


async def test_next_gateway_goes_on(live: LiveSettings) -> None:
    """Output that was under way arrives through the next gateway, and the kernel can be ended."""
    async with serve_settings(live) as first:
        kernel_id = await first.start_kernel()
        channels = await connect(first, kernel_id, "same")
        code = "import time\nfor n in range(30): print(n, flush=True); time.sleep(0.05)"
        msg_id = await channels.run(code)
        await channels.receive("stream", msg_id)
    async with serve_settings(live) as second:
        (model,) = await second.get("/api/kernels")
        assert model["id"] == kernel_id
        assert model["name"] == "python3"
        again = await connect(second, kernel_id, "same")
        assert (await again.receive("execute_reply", msg_id))["status"] == "ok"
        assert (await second.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204


async def test_start_that_is_abandoned_leaves_no_process(real_service: Service) -> None:
    """At any moment that the client leaves, nothing of the kernel remains."""
    for patience in (0.01, 0.2, 0.5):
        timeout = aiohttp.ClientTimeout(total=patience)
        with suppress(TimeoutError):
            started = await real_service.ask("POST", "/api/kernels", timeout=timeout)
            # faster than the client's patience: nothing was abandoned
            await real_service.ask("DELETE", f"/api/kernels/{started.body['id']}")

    async def is_clean() -> bool:
        return not list(real_service.live.current.runtime_dir.glob("*.kernel"))

    await eventually(is_clean)
    assert await real_service.get("/api/kernels") == []


@pytest.mark.parametrize("is_deleted_first", [True, False])
async def test_restart_that_meets_a_delete_says_so(
    real_service: Service, *, is_deleted_first: bool
) -> None:
    """409 or 404: a kernel that another client ends has not failed."""
    kernel_id = await real_service.start_kernel()
    path = f"/api/kernels/{kernel_id}"
    channels = await connect(real_service, kernel_id)
    # so that there is an end to meet: it lasts as long as the agent waits
    await channels.run("import atexit, time; atexit.register(time.sleep, 60)")
    await channels.evaluate("1")
    requests = [("DELETE", path), ("POST", f"{path}/restart")]
    tasks = []
    for method, url in requests if is_deleted_first else reversed(requests):
        tasks.append((method, asyncio.create_task(real_service.ask(method, url))))
        await eventually(lambda: is_ending(real_service, kernel_id))
    for method, task in tasks:
        answer = await task
        assert answer.status in ({204} if method == "DELETE" else {404, 409}), answer.raw


async def is_ending(service: Service, kernel_id: str) -> bool:
    """Say whether a kernel's process is being ended, for a restart or for good."""
    states = ("terminating", "restarting", "gone")
    return any([await has_state(service, kernel_id, state) for state in states])
