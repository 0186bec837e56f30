"""The contract of process proxies, tested with real kernels."""

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path

import aiohttp
import pytest
from harness.proxies.rigs import LAUNCH_TIMEOUT, TOKEN, ProxyRig, Watcher, ask_agent
from harness.waiting import eventually, wait_in_thread

from enterprise_gateway.errors import ConflictError, LaunchError, LaunchTimeoutError
from enterprise_gateway.services.processproxies.contract import (
    POOL_USERNAME,
    BaseProcessProxyABC,
)
from enterprise_gateway.services.processproxies.processproxy import Step, WorkloadState
from enterprise_gateway.services.processproxies.workloads.names import escape_username

UNKNOWN = "00000000-0000-0000-0000-000000000000"


async def test_launched_kernel_runs_and_can_be_reached(
    rig: ProxyRig, proxy: BaseProcessProxyABC
) -> None:
    """When `launch` returns, the agent answers at the endpoint, and the kernel is ready."""
    request = rig.request()
    workload = await proxy.launch(request)
    assert workload.kernel_id == request.kernel_id
    assert workload.name == f"{rig.username}-{request.kernel_id}"
    assert workload.username == rig.username
    assert workload.state is WorkloadState.RUNNING
    state = await ask_agent(workload.endpoint, "/v1/state")
    assert (state["kernel_id"], state["username"]) == (request.kernel_id, rig.username)
    assert state["execution_state"] == "idle"


async def test_agent_has_the_token_of_its_launch(rig: ProxyRig, proxy: BaseProcessProxyABC) -> None:
    """The workload carries its launch id, and its agent accepts only that launch's token."""
    token = "1a07c4" * 8
    request = rig.request(launch_id="5", launch_token=token)
    workload = await proxy.launch(request)
    assert workload.launch_id == "5"
    assert await proxy.observe(request.kernel_id) == workload
    state = await ask_agent(workload.endpoint, "/v1/state", token)
    assert state["kernel_id"] == request.kernel_id
    with pytest.raises(aiohttp.ClientResponseError, match="401"):
        await ask_agent(workload.endpoint, "/v1/state")


async def test_workload_of_a_pool_is_given_to_one_user(
    rig: ProxyRig, proxy: BaseProcessProxyABC
) -> None:
    """From then on it is in no pool for any gateway that asks the engine; its agent goes on."""
    env = {**rig.request().env, "KERNEL_USERNAME": POOL_USERNAME}
    request = rig.request(username=POOL_USERNAME, pool="p", env=env)
    try:
        pooled = await proxy.launch(request)
        assert (pooled.is_pooled, pooled.pool) == (True, "p")
        assigned = await proxy.assign(pooled, rig.username)
        assert (assigned.is_pooled, assigned.username) == (False, rig.username)
        assert await proxy.observe(request.kernel_id) == assigned
        with pytest.raises(ConflictError):
            await proxy.assign(pooled, "another")
        assert (await ask_agent(assigned.endpoint, "/v1/state"))["execution_state"] == "idle"
    finally:
        await proxy.remove(request.kernel_id)


async def test_kernel_is_observed_and_listed(rig: ProxyRig, proxy: BaseProcessProxyABC) -> None:
    """Both return the same as `launch`."""
    workload = await proxy.launch(rig.request())
    assert await proxy.observe(workload.kernel_id) == workload
    assert workload in await proxy.list()
    assert await proxy.observe(UNKNOWN) is None


async def test_start_is_measured_step_by_step(rig: ProxyRig, proxy: BaseProcessProxyABC) -> None:
    """Without a gap, and with what the agent has measured in the workload."""
    request = rig.request()
    request.steps.begin(Step.PREPARE)
    await proxy.launch(request)
    start = request.steps.end()
    agents = ["agent", "kernel", "report"]
    assert list(start.steps) == ["admission", "prepare", *rig.steps, *agents, "check"]
    assert sum(start.steps.values()) == pytest.approx(start.seconds, abs=0.01)
    assert start.steps["agent"] > 0
    assert start.steps["kernel"] > 0


async def test_failed_start_knows_its_step(rig: ProxyRig, proxy: BaseProcessProxyABC) -> None:
    """The agent came up, and the kernel failed; the earlier steps are measured too."""
    request = rig.failing_request()
    request.steps.begin(Step.PREPARE)
    with pytest.raises(LaunchError):
        await proxy.launch(request)
    steps = ["admission", "prepare", *rig.steps, "agent", "kernel"]
    assert list(request.steps.times().steps) == steps


@pytest.mark.parametrize("kernel_id", ["", "../../etc/passwd", "x" * 5000, "a b", "\0", "*"])
async def test_malformed_id_has_no_workload(proxy: BaseProcessProxyABC, kernel_id: str) -> None:
    """Ids come from clients and may be anything."""
    assert await proxy.observe(kernel_id) is None
    assert await proxy.read_log(kernel_id, 100) == ""
    await proxy.remove(kernel_id)


async def test_follower_sees_life_and_death(
    rig: ProxyRig, proxy: BaseProcessProxyABC, watcher: Watcher
) -> None:
    """A death is yielded when it happens, with its reason."""
    workload = await proxy.launch(rig.request())
    await watcher.until(workload.kernel_id, WorkloadState.RUNNING)
    await asyncio.to_thread(rig.kill, workload.kernel_id)
    dead = await watcher.until(workload.kernel_id, WorkloadState.DEAD)
    assert dead.endpoint is None
    assert "kill" in dead.exit_reason.lower()
    await rig.until_gone(workload.kernel_id)
    assert await proxy.observe(workload.kernel_id) is None


async def test_late_follower_is_told_of_what_runs_already(
    rig: ProxyRig, proxy: BaseProcessProxyABC
) -> None:
    """A later follower gets the same states."""
    workload = await proxy.launch(rig.request())
    late = Watcher(proxy)
    assert (await late.until(workload.kernel_id, WorkloadState.RUNNING)).name == workload.name
    await late.close()


async def test_log_is_what_the_workload_printed(rig: ProxyRig, proxy: BaseProcessProxyABC) -> None:
    """The end of the log is returned, however long it is."""
    workload = await proxy.launch(rig.request())

    async def is_in_the_log() -> bool:
        return workload.kernel_id in await proxy.read_log(workload.kernel_id, 65536)

    await eventually(is_in_the_log, what="what the agent printed")
    tail = await proxy.read_log(workload.kernel_id, 20)
    assert len(tail.encode()) <= 20
    assert await proxy.read_log(UNKNOWN, 100) == ""


async def test_removal_is_idempotent_and_complete(
    rig: ProxyRig, proxy: BaseProcessProxyABC, watcher: Watcher
) -> None:
    """Repeatedly and concurrently: nothing is left, and no call fails."""
    workload = await proxy.launch(rig.request())
    await asyncio.gather(*(proxy.remove(workload.kernel_id) for _ in range(3)))
    await rig.until_gone(workload.kernel_id)
    await watcher.until(workload.kernel_id, WorkloadState.DEAD)
    await proxy.remove(workload.kernel_id)
    await proxy.remove(UNKNOWN)


async def test_kernels_are_launched_at_once(rig: ProxyRig, proxy: BaseProcessProxyABC) -> None:
    """Launches do not disturb each other, nor does the failure of one."""
    requests = [rig.request() for _ in range(3)]
    *workloads, failure = await asyncio.gather(
        *map(proxy.launch, [*requests, rig.failing_request()]), return_exceptions=True
    )
    assert isinstance(failure, LaunchError)
    for request, workload in zip(requests, workloads, strict=True):
        assert not isinstance(workload, BaseException)
        state = await ask_agent(workload.endpoint, "/v1/state")
        assert state["kernel_id"] == request.kernel_id


async def test_id_in_use_is_refused(rig: ProxyRig, proxy: BaseProcessProxyABC) -> None:
    """The kernel that has the id goes on; of two at once, one gets it."""
    request = rig.request()
    outcomes = await asyncio.gather(
        proxy.launch(request), proxy.launch(request), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConflictError", "Workload"]
    with pytest.raises(ConflictError):
        await proxy.launch(request)
    workload = await proxy.observe(request.kernel_id)
    assert workload is not None
    await ask_agent(workload.endpoint, "/v1/state")


async def test_id_can_be_used_again_after_removal(
    rig: ProxyRig, proxy: BaseProcessProxyABC, watcher: Watcher
) -> None:
    """A kernel whose workload was lost is launched under its id once more."""
    request = rig.request()
    await proxy.launch(request)
    await asyncio.to_thread(rig.kill, request.kernel_id)
    await watcher.until(request.kernel_id, WorkloadState.DEAD)
    await proxy.remove(request.kernel_id)
    again = await proxy.launch(request)
    await ask_agent(again.endpoint, "/v1/state")
    await watcher.until(request.kernel_id, WorkloadState.RUNNING)


async def test_failed_kernel_is_told_in_its_own_words(
    rig: ProxyRig, proxy: BaseProcessProxyABC
) -> None:
    """The error includes the kernel's output, and nothing is left."""
    request = rig.failing_request()
    with pytest.raises(LaunchError, match="no kernel today"):
        await proxy.launch(request)
    await until_gone(rig, proxy, request.kernel_id)


async def test_nothing_of_a_kernel_outlives_its_workload(
    rig: ProxyRig, proxy: BaseProcessProxyABC, watcher: Watcher
) -> None:
    """A kernel that ignores its agent's end is killed with it, and so are its children."""
    workload = await proxy.launch(rig.stubborn_request())
    await asyncio.to_thread(rig.kill, workload.kernel_id)
    await watcher.until(workload.kernel_id, WorkloadState.DEAD)
    await rig.until_gone(workload.kernel_id)


async def until_gone(rig: ProxyRig, proxy: BaseProcessProxyABC, kernel_id: str) -> None:
    """Wait until nothing is left of a kernel, including late creations of the engine."""
    async with asyncio.timeout(rig.removal_deadline):
        while True:
            traces = await asyncio.to_thread(rig.traces, kernel_id)
            if not traces and await proxy.observe(kernel_id) is None:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.3, 0.6])
async def test_cancelled_launch_leaves_nothing(
    rig: ProxyRig, proxy: BaseProcessProxyABC, delay: float
) -> None:
    """At whatever moment the client leaves, the workload is removed."""
    request = rig.request()
    launch = asyncio.create_task(proxy.launch(request))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(launch), delay)
    if launch.done():  # the machine was faster
        await proxy.remove(request.kernel_id)
    launch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await launch
    await until_gone(rig, proxy, request.kernel_id)


@pytest.mark.parametrize("seconds", [0.001, 0.1, 0.2])
async def test_launch_that_takes_too_long_leaves_nothing(
    rig: ProxyRig, proxy: BaseProcessProxyABC, seconds: float
) -> None:
    """The error says how far it had come, and which setting to raise."""
    request = rig.request(timeout=seconds)
    with pytest.raises(LaunchTimeoutError, match="KERNEL_LAUNCH_TIMEOUT"):
        await proxy.launch(request)
    await rig.until_gone(request.kernel_id)


async def test_id_of_a_failed_launch_can_be_used_again(
    rig: ProxyRig, proxy: BaseProcessProxyABC
) -> None:
    """Late effects of the first launch do not disturb the second."""
    request = rig.request(timeout=0.1)
    with pytest.raises(LaunchTimeoutError):
        await proxy.launch(request)
    again = await proxy.launch(rig.request(kernel_id=request.kernel_id))
    await ask_agent(again.endpoint, "/v1/state")


async def test_another_gateway_goes_on_with_the_kernels(
    rig: ProxyRig, proxy: BaseProcessProxyABC
) -> None:
    """A process proxy keeps no state that its successor would need."""
    workload = await proxy.launch(rig.request())
    await proxy.close()
    successor = await rig.open_proxy()
    watcher = Watcher(successor)
    assert await successor.observe(workload.kernel_id) == workload
    assert workload in await successor.list()
    await watcher.until(workload.kernel_id, WorkloadState.RUNNING)
    await ask_agent(workload.endpoint, "/v1/state")
    await successor.remove(workload.kernel_id)
    await watcher.until(workload.kernel_id, WorkloadState.DEAD)
    await rig.until_gone(workload.kernel_id)
    await watcher.close()


async def test_death_during_the_gateways_absence_is_noticed(
    rig: ProxyRig, proxy: BaseProcessProxyABC
) -> None:
    """The next gateway lists no dead kernel as running."""
    workload = await proxy.launch(rig.request())
    await proxy.close()
    await asyncio.to_thread(rig.kill, workload.kernel_id)
    successor = await rig.open_proxy()
    await rig.until_gone(workload.kernel_id)
    assert await successor.observe(workload.kernel_id) is None
    assert workload.kernel_id not in {each.kernel_id for each in await successor.list()}


@pytest.mark.parametrize("user", ["ann@example.org", "", "j\u00fcrgen " * 9])
async def test_any_user_name_works(rig: ProxyRig, proxy: BaseProcessProxyABC, user: str) -> None:
    """Names that are no container names are escaped, and equal for equal users."""
    rig.username = escape_username(user)  # what the clean-up looks for
    workload = await proxy.launch(rig.request(username=user))
    try:
        assert workload.username == escape_username(user)
        state = await ask_agent(workload.endpoint, "/v1/state")
        assert state["username"] == user
    finally:
        await proxy.remove(workload.kernel_id)


def all_command_lines() -> list[str]:
    """Return the argv of every process on the machine."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(process.read_text(errors="replace"))
    return found


async def test_token_is_nowhere_to_be_seen(
    rig: ProxyRig, proxy: BaseProcessProxyABC, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in an argv, nor in a log, nor in an error."""
    caplog.set_level(logging.DEBUG)
    workload = await proxy.launch(rig.request())
    with pytest.raises(LaunchError) as failure:
        await proxy.launch(rig.failing_request())
    seen = [str(failure.value), caplog.text, await proxy.read_log(workload.kernel_id, 65536)]
    seen += await asyncio.to_thread(all_command_lines)
    assert not any(TOKEN in text for text in seen)


async def test_launch_that_its_gateway_did_not_live_to_see_leaves_nothing(rig: ProxyRig) -> None:
    """The agent cannot report, and ends."""
    request = rig.request(agent_settings={"report_timeout": 3})
    program = (
        "import asyncio, importlib, sys\n"
        "from pathlib import Path\n"
        "async def main():\n"
        "    rig_class = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])\n"
        "    rig = rig_class(Path(sys.argv[3]), *sys.argv[6:])\n"
        "    rig.username = sys.argv[4]\n"
        "    settings = {'report_timeout': 3}\n"
        "    request = rig.request(kernel_id=sys.argv[5], username=rig.username,\n"
        "                          agent_settings=settings)\n"
        "    proxy = await rig.open_proxy()\n"
        "    print('launching', flush=True)\n"
        "    await proxy.launch(request)\n"
        "asyncio.run(main())\n"
    )
    arguments = (
        type(rig).__module__,
        type(rig).__name__,
        str(rig.folder),
        rig.username,
        request.kernel_id,
        *rig.arguments,
    )
    gateway = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *arguments,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "TMPDIR": rig.scratch,
        },
        stdout=asyncio.subprocess.PIPE,
    )
    assert gateway.stdout is not None
    await gateway.stdout.readline()
    await wait_in_thread(lambda: rig.traces(request.kernel_id), LAUNCH_TIMEOUT)
    gateway.kill()
    await gateway.wait()
    if rig.needs_cleanup:
        await rig.open_proxy()
    await rig.until_gone(request.kernel_id)
