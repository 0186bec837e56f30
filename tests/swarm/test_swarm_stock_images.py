"""Services of images that know nothing of this project: the launch injects the agent into them."""

import asyncio
import dataclasses
import functools
from collections.abc import Callable
from contextlib import suppress

import docker
import pytest
from docker.errors import NotFound
from harness.engines.stock_images import empty_image, stock_image
from harness.proxies.engine_rigs import SwarmRig, connect
from harness.proxies.rigs import ask_agent

from enterprise_gateway.errors import LaunchError, LaunchTimeoutError
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    LaunchRequest,
)
from enterprise_gateway.services.processproxies.injection.bundle import (
    FILE,
    FOLDER,
    LABELS,
    build_bundle,
)
from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


def on_worker(lab: SwarmLab, rig: SwarmRig, image: str) -> LaunchRequest:
    """Return a request for a kernel in an image, on a node that is no manager."""
    request = rig.edited_request("constraints", f"['node.hostname=={lab.workers[0].name}']")
    return dataclasses.replace(request, env={**request.env, "KERNEL_IMAGE": image})


def image_of_worker(
    lab: SwarmLab, make_image: Callable[[docker.DockerClient], str] = stock_image
) -> str:
    """Return an image without agent that one node has and the manager has not."""
    client = connect(lab.workers[0].host)
    try:
        return make_image(client)
    finally:
        client.close()


async def test_stock_image_becomes_a_kernel_on_a_node(
    lab: SwarmLab, rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """The agent comes as a config, also if the manager does not know the image.

    Swarm does not end it for the health check that its entry point would have passed. A config that
    an operator has removed is made again.
    """
    bundle = build_bundle()
    for _ in range(2):
        request = on_worker(lab, rig, await asyncio.to_thread(image_of_worker, lab))
        workload = await proxy.launch(request)
        await ask_agent(workload.endpoint, "/v1/state")
        (service,) = await asyncio.to_thread(rig.services, request.kernel_id)
        spec = service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]
        assert spec["Command"] == ["/bin/sh", f"{FOLDER}/{FILE}"]
        assert spec["Healthcheck"] == {"Test": ["NONE"]}
        assert spec["Configs"][0]["ConfigName"] == bundle.name
        config = await asyncio.to_thread(rig.engine.configs.get, bundle.name)
        assert config.attrs["Spec"]["Labels"] == LABELS
        await proxy.remove(request.kernel_id)
        await rig.until_gone(request.kernel_id)
        await asyncio.to_thread(config.remove)


async def test_replicas_that_launch_at_once_share_one_config(
    lab: SwarmLab, rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """The faster gateway has made it for the other."""
    image = await asyncio.to_thread(image_of_worker, lab)
    with suppress(NotFound):
        await asyncio.to_thread(lambda: rig.engine.configs.get(build_bundle().name).remove())
    other = await rig.open_proxy()
    workloads = await asyncio.gather(
        *(each.launch(on_worker(lab, rig, image)) for each in (proxy, other))
    )
    for workload in workloads:
        await ask_agent(workload.endpoint, "/v1/state")


async def test_image_with_an_agent_gets_none_injected(
    rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """The manager knows its label."""
    request = rig.request()
    await proxy.launch(request)
    (service,) = await asyncio.to_thread(rig.services, request.kernel_id)
    assert "Configs" not in service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]


@pytest.mark.parametrize(
    ("make_image", "words"),
    [
        (functools.partial(stock_image, variant="no-pyzmq"), "No module named 'zmq'"),
        (empty_image, "its image has no /bin/sh, which starts the kernel agent"),
    ],
    ids=["no-pyzmq", "no-shell"],
)
async def test_what_an_image_misses_is_told(
    lab: SwarmLab,
    rig: SwarmRig,
    proxy: BaseProcessProxyABC,
    make_image: Callable[[docker.DockerClient], str],
    words: str,
) -> None:
    """By the container, from whichever node."""
    request = on_worker(lab, rig, await asyncio.to_thread(image_of_worker, lab, make_image))
    with pytest.raises(LaunchError, match=words) as failure:
        await proxy.launch(request)
    assert not isinstance(failure.value, LaunchTimeoutError)
    await rig.until_gone(request.kernel_id)
