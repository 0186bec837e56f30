"""The launch of a kernel as a Swarm service."""

import ipaddress
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import pytest

from enterprise_gateway.errors import NotFoundError
from enterprise_gateway.services.processproxies.contract import KernelImage, LaunchRequest
from enterprise_gateway.services.processproxies.docker_swarm import DockerSwarmProcessProxy
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.engine.network import KernelNetwork
from enterprise_gateway.services.processproxies.engine.services import DockerServices
from enterprise_gateway.services.processproxies.injection.bundle import BundleMaker
from enterprise_gateway.services.processproxies.launch.base import LaunchTools
from enterprise_gateway.services.processproxies.launch.service import (
    ServiceLaunch,
    describe_shortage,
)
from enterprise_gateway.services.processproxies.pulls.pulls import Pulls
from enterprise_gateway.services.processproxies.responses.listener import ResponseListener
from enterprise_gateway.services.processproxies.scripts.runner import ScriptRunner
from enterprise_gateway.services.processproxies.steps import StepRecorder
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Task
from enterprise_gateway.settings import DockerSettings, LiveSettings, Settings

NETWORK = "kernels"
T = TypeVar("T")


def task(state: str = "running", **changes: Any) -> Task:
    """Return an entry of `GET /tasks`."""
    entry = {
        "ServiceID": "s1",
        "CreatedAt": "2026-11-22T15:30:43Z",
        "NodeID": "n1",
        "DesiredState": "running",
        "Status": {"State": state},
        "NetworksAttachments": [attachment(NETWORK, "10.0.1.7/24")],
    }
    return msgspec.convert({**entry, **changes}, Task)


def attachment(network: str, *addresses: str) -> dict[str, Any]:
    """Return an entry of a task's `NetworksAttachments`."""
    return {"Network": {"Spec": {"Name": network}}, "Addresses": list(addresses)}


def inside(network: str, number: int, node: str = "n1") -> Task:
    """Return a running task with an address in a network."""
    addressed = [attachment(network, f"10.0.1.{number}/28")]
    return task(ServiceID=f"other{number}", NodeID=node, NetworksAttachments=addressed)


@pytest.mark.parametrize(
    ("own", "others", "is_full"),
    [
        # 13 addresses: 10 tasks, their node, a gateway that Swarm lists no task of and its node
        (task("new", NodeID="", NetworksAttachments=[]), 10, True),
        (task("new", NodeID="", NetworksAttachments=[]), 9, False),
        (task("preparing", NodeID="n2"), 8, True),
        (task("preparing", NodeID="n2"), 7, False),
        (task("pending", NodeID="", NetworksAttachments=[]), 12, False),
        (task("running"), 12, False),
    ],
)
def test_shortage_of_addresses_is_told(own: Task, others: int, *, is_full: bool) -> None:
    """If the task or its node has no address, and all addresses must be in use."""
    network = KernelNetwork(NETWORK, (ipaddress.IPv4Network("10.0.1.0/28"),), "10.0.1.1")
    tasks = [own, *(inside(NETWORK, number) for number in range(others))]
    elsewhere = [inside("another", number) for number in range(20, 40)]
    told = describe_shortage(network, [*tasks, *elsewhere], "s1")
    assert bool(told) is is_full
    if is_full:
        assert "'kernels' (10.0.1.0/28) has 13 addresses" in told
    assert not describe_shortage(network, tasks, "gone")


class Engine(DockerEngine):
    """An engine that notes which networks it is asked for."""

    def __init__(self) -> None:
        super().__init__(DockerSettings())
        self.asked: list[str] = []

    async def network(self, name: str) -> Mapping[str, Any]:
        """See the base class."""
        self.asked.append(name)
        return {
            "Name": name,
            "IPAM": {"Config": [{"Subnet": "10.0.1.0/28", "Gateway": "10.0.1.1"}]},
        }


class Services(DockerServices):
    """Services with a task that waits for an address in a full network."""

    async def all_running_tasks(self) -> list[Task]:
        """See the base class."""
        own = task("new", NodeID="", NetworksAttachments=[])
        return [own, *(inside("own", number) for number in range(10))]


def make_proxy(engine: DockerEngine) -> DockerSwarmProcessProxy:
    """Return a process proxy for services of an engine's swarm."""
    live = LiveSettings(Settings(docker=DockerSettings(network="settings")))
    tools = LaunchTools(
        ResponseListener(live), ScriptRunner(), engine, BundleMaker(), Pulls(live, engine)
    )
    return DockerSwarmProcessProxy(live, tools, services=Services(engine, ""))


class ImageEngine(DockerEngine):
    """An engine that has an image if `image_id` is set."""

    def __init__(self) -> None:
        super().__init__(DockerSettings())
        self.image_id = ""

    async def fetch(self, path: str, kind: type[T], **_: Any) -> T:
        """See the base class."""
        if not self.image_id:
            raise NotFoundError(path)
        return msgspec.convert({"Id": self.image_id}, kind)


async def test_image_of_services_is_what_the_gateways_own_node_has() -> None:
    """A pool is renewed when that changes; other nodes pull by themselves."""
    engine = ImageEngine()
    proxy = make_proxy(engine)
    request = LaunchRequest("id", "py", "ann", ("true",), {}, "", {"image_name": "a"}, {}, "", 60.0)
    assert await proxy.find_image(request) == KernelImage("a", is_present=False, pull_policy="Node")
    for engine.image_id in ("sha256:1", "sha256:2"):
        image = await proxy.find_image(request)
        assert (image.is_present, image.image_id) == (True, engine.image_id)
    await proxy.close()


async def test_shortage_is_looked_for_in_the_launchs_network() -> None:
    """A kernelspec may name another than the settings."""
    engine = Engine()
    proxy = make_proxy(engine)
    progress = proxy._begin_progress(StepRecorder(), (), "own")
    assert isinstance(progress, ServiceLaunch)
    assert "'own' (10.0.1.0/28) has 13 addresses" in await progress._find_shortage("s1")
    assert engine.asked == ["own"]
