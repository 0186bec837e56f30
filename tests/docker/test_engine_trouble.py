"""An engine that is away, silent or restarted is told as that, and costs no kernel."""

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest
from harness.agents.relay import Relay
from harness.engines.leftovers import find_processes
from harness.proxies.engine_rigs import DockerRig
from harness.proxies.rigs import EVENT_DEADLINE, Watcher, ask_agent
from harness.waiting import wait_in_thread

from enterprise_gateway.errors import LaunchTimeoutError, UnavailableError
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.processproxies.engine import client as docker_engine
from enterprise_gateway.services.processproxies.processproxy import WorkloadState
from enterprise_gateway.settings import DockerSettings

pytestmark = pytest.mark.docker


@pytest.fixture
async def proxy(rig: DockerRig, relay: Relay) -> BaseProcessProxyABC:
    """Return a process proxy that reaches the engine through the relay."""
    rig.settings = dataclasses.replace(rig.settings, docker=DockerSettings(host=relay.host))
    return await rig.open_proxy()


async def expect_unavailable(rig: DockerRig, proxy: BaseProcessProxyABC) -> None:
    """Check that everything that needs the engine says so."""
    kernel_id = rig.request().kernel_id
    outcomes = await asyncio.gather(
        proxy.check(),
        proxy.observe(kernel_id),
        proxy.list(),
        proxy.read_log(kernel_id, 100),
        proxy.remove(kernel_id),
        proxy.launch(rig.request()),
        return_exceptions=True,
    )
    assert {type(outcome) for outcome in outcomes} == {UnavailableError}


async def test_engine_that_is_away_is_unavailable(
    rig: DockerRig, proxy: BaseProcessProxyABC, relay: Relay
) -> None:
    """Nothing is concluded about any kernel, and all is well when the engine is back."""
    await proxy.check()
    await relay.close()
    await expect_unavailable(rig, proxy)
    await relay.open()
    await proxy.check()
    workload = await proxy.launch(rig.request())
    await ask_agent(workload.endpoint, "/v1/state")


async def test_engine_that_is_silent_is_unavailable(
    rig: DockerRig, proxy: BaseProcessProxyABC, relay: Relay
) -> None:
    """An engine that takes connections but does not answer is given up after a deadline."""
    await proxy.check()
    relay.freeze()
    await expect_unavailable(rig, proxy)
    relay.thaw()
    await proxy.check()


async def test_cleaning_up_delays_no_launch_beyond_its_deadline(
    rig: DockerRig, proxy: BaseProcessProxyABC, relay: Relay
) -> None:
    """While the engine is away nothing can be removed; who uses the id again is told in time."""
    request = rig.request(argv=("sleep", "100"), timeout=10.0)
    launch = asyncio.create_task(proxy.launch(request))
    await wait_in_thread(lambda: find_processes(f"KERNEL_ID={request.kernel_id}"))
    await relay.close()
    with pytest.raises(LaunchTimeoutError, match="has not ended yet"):
        await launch
    again = dataclasses.replace(request, timeout=0.5)
    with pytest.raises(LaunchTimeoutError, match="an earlier launch of the same id"):
        await asyncio.wait_for(proxy.launch(again), EVENT_DEADLINE)


async def test_engine_that_goes_away_in_the_middle_of_a_start_is_unavailable(
    rig: DockerRig, proxy: BaseProcessProxyABC, relay: Relay, tmp_path: Path
) -> None:
    """Whatever the launch script makes of it: its failure is not the kernelspec's."""
    go = tmp_path / "go"
    waiting = f"while [ ! -e {go} ]; do sleep 0.05; done; echo no engine >&2; exit 1"
    request = rig.request(argv=("sh", "-c", waiting))
    launch = asyncio.create_task(proxy.launch(request))
    await wait_in_thread(lambda: find_processes(f"KERNEL_ID={request.kernel_id}"))
    await relay.close()
    go.touch()
    with pytest.raises(UnavailableError, match=f"Kernel {request.kernel_id} .* did not start: The"):
        await launch
    await relay.open()


async def test_death_while_the_engine_was_away_is_told_when_it_is_back(
    rig: DockerRig, proxy: BaseProcessProxyABC, relay: Relay
) -> None:
    """Events that were missed are made up for by a list."""
    watcher = Watcher(proxy)
    lost = await proxy.launch(rig.request())
    kept = await proxy.launch(rig.request())
    await watcher.until(lost.kernel_id, WorkloadState.RUNNING)
    await relay.close()
    await asyncio.to_thread(rig.kill, lost.kernel_id)
    await relay.open()
    await watcher.until(lost.kernel_id, WorkloadState.DEAD)
    await rig.until_gone(lost.kernel_id)
    assert (await watcher.until(kept.kernel_id, WorkloadState.RUNNING)).endpoint == kept.endpoint
    await watcher.close()


async def test_gateway_starts_before_the_engine(rig: DockerRig, tmp_path: Path) -> None:
    """It follows the engine as soon as there is one."""
    host = os.environ.get("DOCKER_HOST") or docker_engine.DEFAULT_HOST
    late = Relay(tmp_path / "late.sock", host.removeprefix("unix://"))
    rig.settings = dataclasses.replace(rig.settings, docker=DockerSettings(host=late.host))
    proxy = await rig.open_proxy()
    watcher = Watcher(proxy)
    await expect_unavailable(rig, proxy)
    await late.open()
    workload = await proxy.launch(rig.request())
    await watcher.until(workload.kernel_id, WorkloadState.RUNNING)
    await watcher.close()
    await proxy.close()
    await late.close()


@pytest.mark.parametrize("host", ["ftp://x", "ssh://x", "x", "https://127.0.0.1:1"])
async def test_unusable_address_is_told_when_the_engine_is_wanted(
    rig: DockerRig, host: str
) -> None:
    """The gateway starts all the same: local kernels need no engine."""
    rig.settings = dataclasses.replace(rig.settings, docker=DockerSettings(host=host))
    proxy = await rig.open_proxy()
    with pytest.raises(UnavailableError, match=f"DOCKER_HOST={host} is unusable"):
        await proxy.check()
    await expect_unavailable(rig, proxy)
