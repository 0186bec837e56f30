"""Process proxies by class name."""

import re
import uuid
from pathlib import Path

import pytest
from harness.proxies.own_proxy import OwnProcessProxy, OwnReportingProxy

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.docker_swarm import (
    DockerProcessProxy,
    DockerSwarmProcessProxy,
)
from enterprise_gateway.services.processproxies.processproxy import LaunchTools, LocalProcessProxy
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
    other = registry.get(f"{PACKAGE}.local.proxy.LocalProcessProxy")
    assert one is other
    assert registry.all() == [one]


async def test_bring_your_own_class_is_used_and_started(registry: ProxyRegistry) -> None:
    """Any subclass of the contract will do, also one that is named only later."""
    own = registry.get("harness.proxies.own_proxy.OwnProcessProxy")
    assert isinstance(own, OwnProcessProxy)
    await registry.close()
    assert own.closed


def test_class_that_receives_reports_gets_the_tools(registry: ProxyRegistry) -> None:
    """Those of the gateway, which all process proxies share."""
    own = registry.get("harness.proxies.own_proxy.OwnReportingProxy")
    docker = registry.get(f"{PACKAGE}.docker_swarm.DockerProcessProxy")
    assert isinstance(own, OwnReportingProxy)
    assert isinstance(docker, DockerProcessProxy)
    assert isinstance(own.tools, LaunchTools)
    assert own.tools is docker.tools


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
        ("harness.proxies.broken_proxy.BrokenProcessProxy", "cannot be imported: no engine today"),
        ("collections.OrderedDict", "is not a process proxy class"),
        (f"{PACKAGE}.contract.BaseProcessProxyABC", "is not a process proxy class"),
        (f"{PACKAGE}.registry.LOCAL_PROCESS_PROXY", "is not a process proxy class"),
    ],
)
def test_unusable_name_is_the_operators_to_mend(
    registry: ProxyRegistry, class_name: str, message: str
) -> None:
    """The error lists the classes that exist."""
    with pytest.raises(ConfigurationError, match=r"metadata\.process_proxy") as refusal:
        registry.get(class_name)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "source",
    [
        f"from {PACKAGE}.processproxy import RemoteProcessProxy",
        f"from {PACKAGE}.container import ContainerProcessProxy",
        f"from {PACKAGE}.k8s import KubernetesProcessProxy",
        "class SiteProxy:\n    async def launch_process(self, kernel_cmd, **kwargs): ...",
        (
            f"from {PACKAGE}.processproxy import BaseProcessProxyABC as Base\n"
            "class SiteProxy(Base):\n    async def launch_process(self): ..."
        ),
    ],
)
def test_class_written_for_enterprise_gateway_is_said_how_to_port(
    registry: ProxyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """The contract differs; the message names the page that explains porting."""
    name = f"site_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match="process-proxies") as refusal:
        registry.get(f"{name}.SiteProxy")
    section = re.findall(r"section '(.*?)'", str(refusal.value))[0]
    page = Path(__file__).parents[3] / "docs" / "writing-process-proxies.md"
    assert f"# {section}\n" in page.read_text()


def test_module_of_enterprise_gateway_itself_is_said_how_to_port(registry: ProxyRegistry) -> None:
    """A kernelspec may name a class of Enterprise Gateway that is not here."""
    with pytest.raises(ConfigurationError, match="process-proxies"):
        registry.get(f"{PACKAGE}.yarn.YarnClusterProcessProxy")
