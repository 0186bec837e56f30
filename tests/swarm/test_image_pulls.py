"""Images that all nodes of a Swarm pull before any kernel needs them."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound
from harness.engines.image_registry import ImageRegistry, image_registry
from harness.engines.stock_images import unknown_image
from harness.proxies.engine_rigs import SwarmRig
from harness.waiting import wait_in_thread

from enterprise_gateway.errors import LaunchError, PreparingError
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC, LaunchRequest
from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker]


@pytest.fixture
def registry(lab: SwarmLab) -> Iterator[ImageRegistry]:
    """A registry that the nodes reach, with an image that none of them has.

    It must be there before the test enters the network of the kernels.
    """
    with contextlib.closing(docker.from_env()) as client:
        source = unknown_image(client)
        with image_registry(client, source, lab.gateway) as made:
            client.images.remove(source)
            yield made


@pytest.fixture
async def proxy(registry: ImageRegistry, rig: SwarmRig, tmp_path: Path) -> BaseProcessProxyABC:
    """The process proxy of a gateway whose user has logged in to the registry."""
    (tmp_path / "config.json").write_text(registry.docker_config)
    changed = dataclasses.replace(
        rig.settings.docker, launch_env={"DOCKER_CONFIG": str(tmp_path)}, pull_timeout=60.0
    )
    rig.settings = dataclasses.replace(rig.settings, docker=changed)
    return await rig.open_proxy()


def request_for(rig: SwarmRig, image: str) -> LaunchRequest:
    """Return a request for a kernel of an image."""
    return rig.request(config={"image_name": image})


def nodes_with(lab: SwarmLab, image: str) -> int:
    """Return how many nodes have an image."""
    found = 0
    for node in lab.nodes:
        with contextlib.closing(node.client()) as client, contextlib.suppress(ImageNotFound):
            client.images.get(image)
            found += 1
    return found


def services_left(rig: SwarmRig) -> list[str]:
    """Return the names of the services that pulls have left."""
    found = rig.engine.services.list(filters={"label": "component=image-pull"})
    return [service.name for service in found]


async def test_all_nodes_have_the_image(
    lab: SwarmLab, registry: ImageRegistry, rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """Two gateways that ask at the same time have it pulled, with their credentials."""
    other = await rig.open_proxy()
    request = request_for(rig, registry.image)
    await asyncio.gather(proxy.pull_image(request), other.pull_image(request))
    assert await asyncio.to_thread(nodes_with, lab, registry.image) == len(lab.nodes)
    assert services_left(rig) == []


async def test_nodes_without_the_image_are_named(lab: SwarmLab, rig: SwarmRig) -> None:
    """An image whose registry does not answer is told for each node."""
    proxy = await rig.open_proxy()
    image = f"{lab.gateway}:1/team/kernel:1"
    with pytest.raises(LaunchError, match=f"not pulled by 3 of 3 nodes: .*{lab.manager.name}: "):
        await proxy.pull_image(request_for(rig, image))
    assert services_left(rig) == []


async def test_pull_goes_on_after_a_start_that_took_too_long(
    lab: SwarmLab, registry: ImageRegistry, rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """The node gives it up with the task; all nodes pull for the start that comes next."""
    registry.goes_on.clear()
    request = rig.request(config={"image_name": registry.image}, timeout=8.0)
    with pytest.raises(PreparingError, match=r"is preparing its container.* go on pulling"):
        await proxy.launch(request)
    with pytest.raises(PreparingError, match="is being pulled by the nodes"):
        await proxy.prepare(rig.request(config={"image_name": registry.image}, timeout=0.5))
    assert len(await asyncio.to_thread(services_left, rig)) == 1
    registry.goes_on.set()
    await proxy.prepare(rig.request(config={"image_name": registry.image}, timeout=60.0))
    assert await asyncio.to_thread(nodes_with, lab, registry.image) >= 1
    await wait_in_thread(lambda: not services_left(rig), 60.0)
    assert await asyncio.to_thread(nodes_with, lab, registry.image) == len(lab.nodes)


async def test_pull_that_is_given_up_leaves_nothing(
    registry: ImageRegistry, rig: SwarmRig, proxy: BaseProcessProxyABC
) -> None:
    """A gateway that stops removes the service of its pull."""
    registry.goes_on.clear()
    pulling = asyncio.create_task(proxy.pull_image(request_for(rig, registry.image)))
    await wait_in_thread(lambda: bool(services_left(rig)), 30.0)
    pulling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pulling
    await proxy.close()
    assert await asyncio.to_thread(services_left, rig) == []
    registry.goes_on.set()
