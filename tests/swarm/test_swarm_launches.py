"""Failed launches in Swarm services: the error says why, and nothing is left."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from harness.engines.swarm import NetworkEndpoint, enter_network
from harness.proxies.bad_requests import (
    MEMORY_HOG,
    NO_SUCH_IMAGE,
    check_failure,
    gpus_where_there_are_none,
    launch_failures,
    missing_image,
)
from harness.proxies.engine_rigs import DockerRig, EngineRig, SwarmRig
from harness.proxies.rigs import Watcher, ask_agent

from enterprise_gateway.errors import ConfigurationError, LaunchTimeoutError
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    LaunchRequest,
    WorkloadState,
)
from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

_log = logging.getLogger(__name__)


def too_little_memory(rig: SwarmRig) -> LaunchRequest:
    """Give the container less memory than a Python needs."""
    limit = "docker.types.Resources(mem_limit=24 << 20)"
    return rig.edited_request("command", f"{MEMORY_HOG}; settings['resources'] = {limit}")


def invalid_setting(rig: SwarmRig) -> LaunchRequest:
    """Ask for a setting that Swarm refuses."""
    return rig.edited_request("constraints", "['no constraint']")


@launch_failures(
    (missing_image, rf"rejected: No such image: {NO_SUCH_IMAGE}\. .*push it to a registry"),
    (gpus_where_there_are_none, r"no node of the Swarm offers more than 0 .*NVIDIA-GPU"),
    (too_little_memory, r"exit code 137 .*memory limit of 24 MiB\. Ask for more \(KERNEL_MEM"),
    (invalid_setting, r"refused to make a service .*constraint"),
)
async def test_cause_is_told_and_nothing_is_left(
    rig: SwarmRig,
    proxy: BaseProcessProxyABC,
    make_request: Callable[[SwarmRig], LaunchRequest],
    words: str,
) -> None:
    """The error names the kernel, and the cause in the words of the engine, image or script."""
    await check_failure(rig, proxy, make_request(rig), words)


async def test_what_a_launch_waited_for_is_told_at_its_deadline(
    rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """A node that fits might still join, so the launch waits until its deadline."""
    waits = [
        ("constraints", "['node.labels.gpu == yes']", r"no suitable node \(scheduling constraints"),
        (
            "resources",
            "docker.types.Resources(mem_reservation=1 << 60)",
            r"no suitable node \(insufficient resources",
        ),
        ("command", "['sleep', '600']", "runs, but nothing has reported to"),
    ]

    async def expect_wait(name: str, value: str, words: str) -> None:
        request = rig.edited_request(name, value, timeout=20)
        with pytest.raises(LaunchTimeoutError, match=words):
            await proxy.launch(request)
        await rig.until_gone(request.kernel_id)

    await asyncio.gather(*(expect_wait(*wait) for wait in waits))


async def test_death_of_a_node_is_that_of_its_kernels(
    lab: SwarmLab, rig: SwarmRig, proxy: BaseProcessProxyABC, watcher: Watcher
) -> None:
    """It is told soon and with the node's name; other kernels go on, and nothing comes back."""
    victim = lab.workers[0]
    lost = await proxy.launch(
        rig.edited_request("constraints", f"['node.hostname=={victim.name}']")
    )
    kept = await proxy.launch(
        rig.edited_request("constraints", f"['node.hostname=={lab.manager.name}']")
    )
    await watcher.until(lost.kernel_id, WorkloadState.RUNNING)
    await asyncio.to_thread(victim.power_off)
    began = time.monotonic()
    dead = await watcher.until(lost.kernel_id, WorkloadState.DEAD)
    _log.info("dead %.1f s after the fault, with a heartbeat of 1 s", time.monotonic() - began)
    assert dead.exit_reason == f"node {victim.name} is down"
    assert await proxy.observe(lost.kernel_id) == dead
    assert await proxy.observe(kept.kernel_id) == kept
    await asyncio.to_thread(victim.power_on)
    after = await proxy.observe(lost.kernel_id)
    assert after is None or after.state is WorkloadState.DEAD
    await proxy.remove(lost.kernel_id)
    await rig.until_gone(lost.kernel_id)


async def expect_refusal(rig: EngineRig, words: str) -> None:
    """Check that a launch is refused with a remedy, nothing is made, and nothing else is wrong."""
    proxy = await rig.open_proxy()
    request = rig.request()
    with pytest.raises(ConfigurationError, match=words):
        await proxy.launch(request)
    assert not await asyncio.to_thread(rig.traces, request.kernel_id)
    await proxy.check()
    assert await proxy.list() == []


def point(rig: EngineRig, **docker: str) -> None:
    """Change the gateway's settings of the engine."""
    changed = dataclasses.replace(rig.settings.docker, **docker)
    rig.settings = dataclasses.replace(rig.settings, docker=changed)


async def test_engine_that_manages_no_swarm_is_refused(lab: SwarmLab, rig: SwarmRig) -> None:
    """It has no kernels; that is no fault, unless one is asked for."""
    point(rig, host=lab.workers[0].host)
    await expect_refusal(rig, "not a swarm manager.*DOCKER_HOST.*DockerProcessProxy")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bridge", "not an overlay network of the swarm.*docker network create --driver overlay"),
        ("no-such", "docker network create --driver overlay --attachable no-such"),
        ("host", "EG_DOCKER_NETWORK"),
    ],
)
async def test_network_that_spans_no_nodes_is_refused(rig: SwarmRig, name: str, words: str) -> None:
    """Kernels of a bridge could be reached from their own node only."""
    point(rig, network=name)
    await expect_refusal(rig, words)


async def test_gateway_outside_the_network_is_refused(
    lab: SwarmLab, network: str, tmp_path: Path
) -> None:
    """A process of the host cannot reach an overlay network, nor be reached from there."""
    rig = SwarmRig.of(tmp_path, lab, network)
    try:
        await expect_refusal(rig, "has no address in .*Run the gateway in a container of that net")
    finally:
        await rig.close()


@pytest.fixture
async def docker_rig(
    lab: SwarmLab, network: str, endpoint: NetworkEndpoint, tmp_path: Path
) -> AsyncIterator[DockerRig]:
    """Return a rig for containers on the manager's engine; the test is in their network."""
    with enter_network(endpoint):
        rig = DockerRig(tmp_path, lab.manager.host, network)
        yield rig
        await rig.close()


async def test_containers_join_the_network_of_services(docker_rig: DockerRig) -> None:
    """A gateway in an overlay network has kernels of both kinds in it."""
    proxy = await docker_rig.open_proxy()
    workload = await proxy.launch(docker_rig.request())
    await ask_agent(workload.endpoint, "/v1/state")
    assert await proxy.observe(workload.kernel_id) == workload


async def test_containers_cannot_join_a_network_for_services_only(docker_rig: DockerRig) -> None:
    """The engine would say so only when the container starts."""
    name = f"{docker_rig.username}-net"
    network = await asyncio.to_thread(
        lambda: docker_rig.engine.networks.create(name, driver="overlay")
    )
    try:
        point(docker_rig, network=name)
        await expect_refusal(docker_rig, "for services only.*--attachable")
    finally:
        await asyncio.to_thread(network.remove)
