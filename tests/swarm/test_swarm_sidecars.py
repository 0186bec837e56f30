"""A site's own launch script makes services of Enterprise Gateway's image: they get sidecars."""

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest
from harness.kernels.site_kernels import EG_IMAGE, ensure_eg_image, install_site_kernelspec
from harness.proxies.engine_rigs import SwarmRig
from harness.proxies.rigs import Watcher, ask_agent, end_by_agent
from harness.waiting import eventually, wait_in_thread

from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.workloads.sidecars import SIDECAR_LABEL
from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


@pytest.fixture(scope="module")
def image(shared_lab: SwarmLab) -> str:
    """The image, on the manager: the site's script constrains kernels to it."""
    with closing(docker.from_env()) as source, closing(shared_lab.manager.client()) as manager:
        name = ensure_eg_image(source)
        if not manager.images.list(name):
            saved: Any = source.images.get(name).save(named=True)  # a generator, which will do
            manager.images.load(saved)
    return name


@pytest.fixture
def request_of_site(rig: SwarmRig, image: str, tmp_path: Path) -> Callable[[], LaunchRequest]:
    """Return what makes a request of the site's kernelspec."""
    folder = install_site_kernelspec(tmp_path / "kernels", "site", image, swarm=True)
    spec = json.loads((folder / "kernel.json").read_text())

    def make() -> LaunchRequest:
        return rig.make_request(
            argv=tuple(spec["argv"]),
            resource_dir=str(folder),
            config={"image_name": EG_IMAGE},
        )

    return make


async def until_services(rig: SwarmRig, kernel_id: str, count: int) -> list[Any]:
    """Wait until a kernel has so many services; return them, its own first."""
    await wait_in_thread(lambda: len(rig.services(kernel_id)) == count, rig.removal_deadline)
    services = await asyncio.to_thread(rig.services, kernel_id)
    return sorted(services, key=lambda each: SIDECAR_LABEL in each.attrs["Spec"]["Labels"])


async def until_idle(workload: Workload) -> None:
    """Wait until an agent says that its kernel is idle."""

    async def is_idle() -> bool:
        state = await ask_agent(workload.endpoint, "/v1/state")
        return bool(state["execution_state"] == "idle")

    await eventually(is_idle, what="an idle kernel")


def kill(rig: SwarmRig, name: str) -> None:
    """Kill the container of a service, on whatever node it is."""
    (container,) = (each for each in rig.containers() if each.name.startswith(f"{name}.1."))
    container.kill()


async def test_sidecar_is_a_service_beside_the_kernels(
    rig: SwarmRig, proxy: BaseProcessProxyABC, request_of_site: Callable[[], LaunchRequest]
) -> None:
    """Every gateway sees one kernel; what its agent ends is removed, both halves of it."""
    request = request_of_site()
    workload = await proxy.launch(request)
    await until_idle(workload)
    kernel, sidecar = await until_services(rig, request.kernel_id, 2)
    labels = sidecar.attrs["Spec"]["Labels"]
    assert labels == {
        "app": "enterprise-gateway",
        "component": "kernel",
        "kernel_id": request.kernel_id,
        SIDECAR_LABEL: kernel.id,
    }
    assert sidecar.attrs["Spec"]["EndpointSpec"]["Mode"] == "dnsrr"
    template = sidecar.attrs["Spec"]["TaskTemplate"]
    assert template["RestartPolicy"]["Condition"] == "none"
    assert kernel.name == workload.name
    other = await rig.open_proxy()
    assert await other.observe(request.kernel_id) == workload
    assert [each for each in await other.list() if each.kernel_id == request.kernel_id] == [
        workload
    ]
    await end_by_agent(workload.endpoint)
    await rig.until_gone(request.kernel_id)


@pytest.mark.parametrize("is_sidecar", [False, True], ids=["kernel", "sidecar"])
async def test_death_of_either_is_that_of_the_kernel(
    rig: SwarmRig,
    proxy: BaseProcessProxyABC,
    watcher: Watcher,
    request_of_site: Callable[[], LaunchRequest],
    *,
    is_sidecar: bool,
) -> None:
    """The reason is told for as long as the dead half stays; then any gateway removes that."""
    request = request_of_site()
    await proxy.launch(request)
    services = await until_services(rig, request.kernel_id, 2)
    victim = services[is_sidecar]
    await asyncio.to_thread(kill, rig, victim.name)
    dead = await watcher.until(request.kernel_id, WorkloadState.DEAD)
    assert "137" in dead.exit_reason
    assert dead.exit_reason.startswith("its sidecar ended") is is_sidecar
    (left,) = await until_services(rig, request.kernel_id, 1)
    assert left.id == victim.id
    rig.change_delays(tombstone_seconds=0.0)
    await rig.open_proxy()
    await rig.until_gone(request.kernel_id)
