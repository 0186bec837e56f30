"""Process proxies by class name."""

import pytest
from harness.own_proxy import OwnProcessProxy

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.docker_swarm import (
    DockerProcessProxy,
    DockerSwarmProcessProxy,
)
from enterprise_gateway.services.processproxies.processproxy import LocalProcessProxy
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.settings import LiveSettings, Settings

PACKAGE = "enterprise_gateway.services.processproxies"


@pytest.fixture
def registry() -> ProxyRegistry:
    """Return a registry that has not been started."""
    return ProxyRegistry(LiveSettings(Settings()))


def test_documented_names_are_found(registry: ProxyRegistry) -> None:
    """Existing kernelspecs name their classes so."""
    assert isinstance(registry.get(f"{PACKAGE}.processproxy.LocalProcessProxy"), LocalProcessProxy)
    docker = registry.get(f"{PACKAGE}.docker_swarm.DockerProcessProxy")
    assert isinstance(docker, DockerProcessProxy)
    swarm = registry.get(f"{PACKAGE}.docker_swarm.DockerSwarmProcessProxy")
    assert isinstance(swarm, DockerSwarmProcessProxy)


def test_object_is_made_once_per_class(registry: ProxyRegistry) -> None:
    """Two names of one class are one process proxy."""
    one = registry.get(f"{PACKAGE}.processproxy.LocalProcessProxy")
    other = registry.get(f"{PACKAGE}.local.LocalProcessProxy")
    assert one is other
    assert registry.all() == [one]


async def test_bring_your_own_class_is_used_and_started(registry: ProxyRegistry) -> None:
    """Any subclass of the contract will do, also one that is named only later."""
    own = registry.get("harness.own_proxy.OwnProcessProxy")
    assert isinstance(own, OwnProcessProxy)
    await registry.close()
    assert own.closed


@pytest.mark.parametrize(
    ("class_name", "message"),
    [
        (
            f"{PACKAGE}.docker_swarm.KubernetesProcessProxy",
            "docker_swarm has: DockerProcessProxy, DockerSwarmProcessProxy",
        ),
        ("no.such.module.Proxy", "cannot be imported"),
        ("Proxy", "cannot be imported"),
        ("", "cannot be imported"),
        (".Proxy", "cannot be imported"),
        (".module.Proxy", "cannot be imported"),
        ("harness.broken_proxy.BrokenProcessProxy", "cannot be imported: no engine today"),
        ("collections.OrderedDict", "is no process proxy class"),
        (f"{PACKAGE}.contract.BaseProcessProxyABC", "is no process proxy class"),
        (f"{PACKAGE}.registry.LOCAL_PROCESS_PROXY", "is no process proxy class"),
    ],
)
def test_unusable_name_is_the_operators_to_mend(
    registry: ProxyRegistry, class_name: str, message: str
) -> None:
    """The error says what there is instead."""
    with pytest.raises(ConfigurationError, match=r"metadata\.process_proxy") as refusal:
        registry.get(class_name)
    assert message in str(refusal.value)
