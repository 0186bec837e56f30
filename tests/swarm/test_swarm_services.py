"""What a kernel's service is like, and what becomes of it."""

import asyncio
import dataclasses
import functools
import json
import time
import uuid
from typing import Any

import pytest
from docker.types import RestartPolicy
from harness.engines.swarm import KERNEL_IMAGE
from harness.proxies.engine_rigs import SwarmRig
from harness.proxies.rigs import TOKEN, Watcher, ask_agent, end_by_agent

from enterprise_gateway.errors import ConflictError
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.registry import DOCKER_PROCESS_PROXY
from enterprise_gateway.services.processproxies.resources import KernelResources, Ulimit
from enterprise_gateway.settings.values.amounts import Amounts
from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

MIB = 1024**2
UNPLACEABLE_SECONDS = 2.5
"""That a launch may take of which there is a service that no node takes."""
TEMPLATES = {
    "X_NODE": "{{.Node.Hostname}}",
    "X_BROKEN": "{{ {{- }} {{{ }}}",
    "X_QUOTED": '{{"{{"}}',
    "X_LINES": "a\nb='c' \\ $HOME",
}


def with_env(request: LaunchRequest, **env: str) -> LaunchRequest:
    """Return the request with more in its environment."""
    return dataclasses.replace(request, env={**request.env, **env})


async def inspect(rig: SwarmRig, proxy: BaseProcessProxyABC, request: LaunchRequest) -> Any:
    """Launch a kernel; returns what Swarm says of its service, and the engine of its container."""
    workload = await proxy.launch(request)
    await ask_agent(workload.endpoint, "/v1/state")
    (service,) = await asyncio.to_thread(rig.services, request.kernel_id)
    (container,) = await asyncio.to_thread(rig.containers, request.kernel_id)
    return service.attrs["Spec"], container.attrs


async def test_service_is_named_labelled_and_owned_as_documented(
    rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """Operators and other gateways find it by these."""
    request = rig.request()
    service, container = await inspect(rig, proxy, request)
    name = f"{rig.username}-{request.kernel_id}"
    assert service["Name"] == container["Config"]["Hostname"] == name
    assert service["EndpointSpec"]["Mode"] == "dnsrr"
    template = service["TaskTemplate"]
    assert template["RestartPolicy"]["Condition"] == "none"
    assert template["ContainerSpec"]["User"] == "1000:100"
    assert template["ContainerSpec"]["Groups"] == ["100", "100"]
    assert template["ContainerSpec"]["Init"] is False
    for labels in (service["Labels"], container["Config"]["Labels"]):
        assert labels["app"] == "enterprise-gateway"
        assert labels["component"] == "kernel"
        assert labels["kernel_id"] == request.kernel_id
        assert labels["enterprise-gateway.cluster"] == rig.settings.cluster_id
    assert TOKEN not in json.dumps([service["Labels"], container["Config"]["Labels"]])


async def test_values_of_clients_are_no_templates(
    rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """Swarm expands Go templates; what a client sends arrives as it is, and is told as it was."""
    request = with_env(rig.request(), **TEMPLATES)
    _, container = await inspect(rig, proxy, request)
    env = dict(entry.split("=", 1) for entry in container["Config"]["Env"])
    assert {name: env[name] for name in TEMPLATES} == TEMPLATES
    workload = await proxy.observe(request.kernel_id)
    assert workload is not None
    launched_with = await proxy.launched_with(workload)
    assert {name: launched_with[name] for name in request.env} == request.env
    assert "PATH" not in launched_with


async def test_service_takes_no_more_than_was_planned(
    rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """Its container has the limits, Swarm the reservations, and each gateway knows its usage."""
    planned = KernelResources(
        Amounts(
            nano_cpus=500_000_000,
            memory=300 * MIB,
            pids=77,
            shm_size=100 * MIB,
            reserved_memory=50 * MIB,
        ),
        ulimits=(Ulimit("nofile", 2048, 2048),),
        constraints=("node.labels.no-such != yes",),
        preferences=("node.labels.rack",),
        groups=frozenset({"lab"}),
    )
    request = rig.request(resources=planned)
    service, container = await inspect(rig, proxy, request)
    template = service["TaskTemplate"]
    assert template["Resources"]["Reservations"] == {"MemoryBytes": 50 * MIB}
    assert template["Placement"]["Constraints"] == list(planned.constraints)
    assert template["Placement"]["Preferences"] == [
        {"Spread": {"SpreadDescriptor": "node.labels.rack"}}
    ]
    host = container["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 300 * MIB, 77)
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 2048, "Soft": 2048}]
    (shared_memory,) = [each for each in host["Mounts"] if each["Target"] == "/dev/shm"]
    assert shared_memory["TmpfsOptions"]["SizeBytes"] == 100 * MIB
    workload = await proxy.observe(request.kernel_id)
    assert workload is not None
    assert workload.usage == planned.usage


async def test_kernel_may_run_as_any_user_where_it_likes(rig: SwarmRig) -> None:
    """User and groups are the request's, and so is the folder that the agent enters."""
    docker = dataclasses.replace(rig.settings.docker, mirror_working_dirs=True)
    rig.settings = dataclasses.replace(rig.settings, docker=docker)
    request = with_env(
        rig.request(), KERNEL_UID="12345", KERNEL_GID="54321", KERNEL_WORKING_DIR="/tmp"
    )
    _, container = await inspect(rig, await rig.open_proxy(), request)
    assert container["Config"]["User"] == "12345:54321"
    assert container["HostConfig"]["GroupAdd"] == ["54321", "100"]
    assert "KERNEL_WORKING_DIR=/tmp" in container["Config"]["Env"]


async def test_service_is_confined_and_has_the_volumes_of_its_kernelspec(
    rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """Like a container, as its container shows."""
    request = rig.request()
    volumes = [
        {"type": "volume", "source": "egt-{username}", "target": "/home/jovyan"},
        {"type": "tmpfs", "target": "/scratch", "size": "16m"},
    ]
    config = {**request.config, "volumes": volumes, "security": {"read_only": True}}
    service, container = await inspect(rig, proxy, dataclasses.replace(request, config=config))
    host = container["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["ReadonlyRootfs"] is True
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "3"},
    }
    mounts = {mount["Target"]: mount for mount in host["Mounts"]}
    assert mounts.keys() == {"/home/jovyan", "/scratch", "/tmp"}
    assert mounts["/home/jovyan"]["Source"] == f"egt-{rig.username}"
    assert mounts["/scratch"]["TmpfsOptions"] == {"SizeBytes": 16 << 20}
    template = service["TaskTemplate"]["ContainerSpec"]
    assert template["ReadOnly"] is True
    assert template["CapabilityDrop"] == ["ALL"]


async def test_kernel_reads_the_secret_that_its_kernelspec_names(
    rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """As its user, from a file in memory; no other user may, and the environment has nothing."""
    name = f"egt-{uuid.uuid4().hex[:8]}"
    secret = await asyncio.to_thread(rig.engine.secrets.create, name=name, data=b"sesame")
    try:
        request = rig.request()
        config = {**request.config, "secrets": [{"source": name, "target": "door"}]}
        _, container = await inspect(rig, proxy, dataclasses.replace(request, config=config))
        assert "sesame" not in json.dumps(container)
        (running,) = await asyncio.to_thread(rig.containers, request.kernel_id)
        read = ["cat", "/run/secrets/door"]
        assert await asyncio.to_thread(running.exec_run, read) == (0, b"sesame")
        code, _ = await asyncio.to_thread(functools.partial(running.exec_run, read, user="2000"))
        assert code == 1
        await proxy.remove(request.kernel_id)
    finally:
        await asyncio.to_thread(rig.remove_kernels)
        await asyncio.to_thread(secret.remove)


async def test_kernels_land_on_several_nodes(
    rig: SwarmRig, proxy: BaseProcessProxyABC, lab: SwarmLab
) -> None:
    """Swarm spreads them, each can be reached wherever it is, and operators are told where."""
    workloads = await asyncio.gather(*(proxy.launch(rig.request()) for _ in range(3)))
    for workload in workloads:
        await ask_agent(workload.endpoint, "/v1/state")
    tasks = [each.tasks()[0] for each in await asyncio.to_thread(rig.services)]
    assert len({task["NodeID"] for task in tasks}) > 1
    listed = await proxy.list()
    nodes = {node.name for node in lab.nodes}
    assert {each.node for each in listed} <= nodes
    assert len({each.node for each in listed}) > 1
    assert {each.image for each in listed} == {KERNEL_IMAGE}


async def test_creation_is_known_to_fractions_of_a_second(
    rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """So that of two kernels of the same second the later one gives way to a limit."""
    first, second = [await proxy.launch(rig.request()) for _ in range(2)]
    assert first.created == await proxy.created(first) < await proxy.created(second)
    assert first.created % 1


async def test_id_asked_of_two_gateways_at_once_is_one_kernel(rig: SwarmRig) -> None:
    """The one that comes too late leaves the other's service alone."""
    proxies = [await rig.open_proxy() for _ in range(2)]
    request = rig.request()
    outcomes = await asyncio.gather(
        *(proxy.launch(request) for proxy in proxies), return_exceptions=True
    )
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(failures) == 1, outcomes
    assert isinstance(failures[0], ConflictError)
    workload = next(outcome for outcome in outcomes if isinstance(outcome, Workload))
    await ask_agent(workload.endpoint, "/v1/state")
    (service,) = await asyncio.to_thread(rig.services, request.kernel_id)
    assert service.name == workload.name


async def test_kernel_that_ended_in_order_is_removed(
    rig: SwarmRig, proxy: BaseProcessProxyABC, watcher: Watcher
) -> None:
    """As when its agent culls it; no request is needed."""
    workload = await proxy.launch(rig.request())
    await end_by_agent(workload.endpoint)
    dead = await watcher.until(workload.kernel_id, WorkloadState.DEAD)
    assert dead.exit_reason == "exit code 0"
    await rig.until_gone(workload.kernel_id)


async def test_service_that_ended_can_be_kept(
    rig: SwarmRig,
    proxy: BaseProcessProxyABC,
    watcher: Watcher,
) -> None:
    """EG_REMOVE_CONTAINER=False leaves it to be looked into, until the id is used again."""
    rig.change_delays(tombstone_seconds=0.0)
    request = with_env(rig.request(), EG_REMOVE_CONTAINER="False")
    removed = await proxy.launch(rig.request())
    await proxy.launch(request)
    for kernel_id in (request.kernel_id, removed.kernel_id):
        await asyncio.to_thread(rig.kill, kernel_id)
    dead = await watcher.until(request.kernel_id, WorkloadState.DEAD)
    assert dead.exit_reason == "exit code 137 (killed)"
    await rig.until_gone(removed.kernel_id)
    assert await proxy.observe(request.kernel_id) == dead
    assert request.kernel_id in await proxy.read_log(request.kernel_id, 65536)
    again = await proxy.launch(request)
    assert again.created > dead.created


@pytest.mark.parametrize("is_there_before", [True, False])
async def test_service_that_no_gateway_waits_for_is_removed(
    rig: SwarmRig, *, is_there_before: bool
) -> None:
    """A gateway that was killed mid-launch left one that cannot run; any other clears it away.

    Not before its time: a launch may still be waiting for it.
    """
    rig.change_delays(launch_margin_seconds=0.5)
    if not is_there_before:
        await rig.open_proxy()
    began = time.monotonic()
    kernel_id = await create_unplaceable(rig)
    if is_there_before:
        await rig.open_proxy()
    await rig.until_gone(kernel_id)
    assert time.monotonic() - began > UNPLACEABLE_SECONDS


async def create_unplaceable(rig: SwarmRig) -> str:
    """Make a kernel's service that no node takes; returns the kernel's id."""
    kernel_id = str(uuid.uuid4())
    await asyncio.to_thread(
        lambda: rig.engine.services.create(
            "debian:bookworm-slim",
            name=f"{rig.username}-{kernel_id}",
            labels={"app": "enterprise-gateway", "component": "kernel", "kernel_id": kernel_id},
            constraints=["node.labels.no == such"],
            env=[f"KERNEL_LAUNCH_TIMEOUT={UNPLACEABLE_SECONDS}"],
            restart_policy=RestartPolicy("none"),
        )
    )
    return kernel_id


async def test_container_of_a_service_is_no_kernel_of_its_own(
    lab: SwarmLab, rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """The engine of its node lists it, with the same labels."""
    here = rig.edited_request("constraints", f"['node.hostname=={lab.manager.name}']")
    workload = await proxy.launch(here)
    rig.class_name = DOCKER_PROCESS_PROXY
    for_containers = await rig.open_proxy()
    assert await for_containers.list() == []
    assert await for_containers.observe(workload.kernel_id) is None
