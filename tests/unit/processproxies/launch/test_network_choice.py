"""The network that a kernelspec names, as the engine describes it."""

import uuid
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import pytest
from harness.engines.fake_containers import FakeContainers

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.docker_swarm import DockerProcessProxy
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.injection.bundle import BundleMaker
from enterprise_gateway.services.processproxies.launch.base import LaunchTools
from enterprise_gateway.services.processproxies.pulls.pulls import Pulls
from enterprise_gateway.services.processproxies.responses.listener import ResponseListener
from enterprise_gateway.services.processproxies.scripts.runner import ScriptRunner
from enterprise_gateway.settings import (
    DockerSettings,
    LiveSettings,
    ServerSettings,
    Settings,
)

NETWORKS: dict[str, dict[str, Any]] = {
    "kernels": {"IPAM": {"Config": [{"Subnet": "10.0.0.0/24"}]}},
    "team": {"IPAM": {"Config": [{"Subnet": "10.0.1.0/24"}]}},
    "frontend": {"IPAM": {"Config": [{"Subnet": "10.0.2.0/24"}]}},
    "gateways": {
        "IPAM": {"Config": [{"Subnet": "10.0.3.0/24"}]},
        "Labels": {"app": "enterprise-gateway", "component": "gateway-network"},
    },
}
"""By the name or id that the engine takes for them."""
NO_ADDRESS = "has no address in the Docker network"
"""The check that comes next: this machine is in none of them."""


class Engine(DockerEngine):
    """An engine with those networks, whose names it takes as well as ids."""

    async def network(self, name: str) -> Mapping[str, Any]:
        """See the base class."""
        known = name.removeprefix("id-of-")
        return {"Name": known, **NETWORKS[known]}


async def refusal(stated: str, *trusted: str) -> str:
    """Return why no kernel of a kernelspec with this `network` starts."""
    settings = Settings(
        docker=DockerSettings(network="kernels"),
        server=ServerSettings(trusted_proxies=tuple(map(ip_network, trusted))),
    )
    live, engine = LiveSettings(settings), Engine(settings.docker)
    tools = LaunchTools(
        ResponseListener(live), ScriptRunner(), engine, BundleMaker(), Pulls(live, engine)
    )
    proxy = DockerProcessProxy(live, tools, containers=FakeContainers())
    request = LaunchRequest(
        kernel_id=str(uuid.uuid4()),
        kernel_name="team",
        username="ann",
        argv=("true",),
        env={},
        resource_dir="",
        config={"network": stated},
        agent_settings={},
        agent_token="",
        timeout=60.0,
    )
    with pytest.raises(ConfigurationError) as error:
        await proxy.launch(request)
    await proxy.close()
    return str(error.value)


@pytest.mark.parametrize("stated", ["frontend", "id-of-frontend"])
async def test_network_of_trusted_proxies_is_not_for_kernels(stated: str) -> None:
    """A kernel there could say who the clients of its requests are."""
    for trusted in ("10.0.2.9", "10.0.0.0/16"):
        message = await refusal(stated, "fd00::1", trusted)
        assert "'frontend'" in message
        assert "EG_TRUSTED_PROXIES" in message
    assert NO_ADDRESS in await refusal(stated, "10.0.1.9", "fd00::/8")


@pytest.mark.parametrize("stated", ["gateways", "id-of-gateways"])
async def test_gateways_network_is_not_for_kernels(stated: str) -> None:
    """The stack's has a label that says what it is for."""
    assert "component=gateway-network" in await refusal(stated)


async def test_other_networks_are_the_kernelspecs_choice() -> None:
    """And the kernels' own network is the operator's, whatever is trusted there."""
    assert NO_ADDRESS in await refusal("team", "10.0.2.0/24")
    assert NO_ADDRESS in await refusal("default", "10.0.0.0/24")
    assert NO_ADDRESS in await refusal("id-of-kernels", "10.0.0.0/24")
