"""Fixtures shared by the tests that need a whole gateway, a Swarm or a process proxy.

Each folder of tests of process proxies has a fixture `rig`: the kind that it tests.
"""

from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path

import pytest
from harness.engines.swarm import KERNEL_IMAGE, NetworkEndpoint, overlay_network
from harness.gateways.compose import ComposeProject
from harness.gateways.gateway import Gateway
from harness.gateways.replica import ReplicaGroup
from harness.gateways.stack import Stack
from harness.proxies.engine_rigs import EngineRig
from harness.proxies.rigs import ProxyRig, Watcher
from hypothesis import HealthCheck, settings

from devtools.images import SWARM_IMAGES
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from swarmlab.lab import SwarmLab, swarm_lab

LOG_TAIL_CHARS = 20_000

settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the log of every gateway that a failed test used, and what its engines have.

    Gateways that several tests share are without kernels for the next test.
    """
    report = yield
    if report.failed:
        values = getattr(item, "funcargs", {}).values()
        for value in chain.from_iterable(
            each if isinstance(each, tuple) else [each] for each in values
        ):
            if isinstance(value, Gateway | Stack | ComposeProject | ReplicaGroup):
                report.sections.append(("gateway log", value.read_log()[-LOG_TAIL_CHARS:]))
                if report.when == "call":
                    value.delete_all_kernels()
            elif isinstance(value, EngineRig) and report.when == "call":
                report.sections.append(("workloads", value.dump()))
    return report


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A running gateway for tests that leave it as they found it."""
    shared = Gateway(tmp_path_factory.mktemp("gateway"))
    try:
        shared.start()
        yield shared
    finally:
        shared.close()


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A running gateway that the test may kill."""
    own = Gateway(tmp_path / "gateway")
    try:
        own.start()
        yield own
    finally:
        own.close()


@pytest.fixture(params=["python3", pytest.param("python_docker", marks=pytest.mark.docker)])
def kernel_name(request: pytest.FixtureRequest) -> str:
    """The kernelspec: what works in a container must work in a local process, and the reverse."""
    return str(request.param)


@pytest.fixture
def kernel(gateway: Gateway, kernel_name: str) -> Iterator[str]:
    """The id of a kernel of the shared gateway."""
    kernel_id = gateway.start_kernel(kernel_name)
    yield kernel_id
    gateway.request("DELETE", f"/api/kernels/{kernel_id}")


@pytest.fixture(scope="session")
def shared_lab() -> Iterator[SwarmLab]:
    """A Swarm of three nodes, which have the project's images."""
    with swarm_lab(3, images=[image.tag for image in SWARM_IMAGES]) as lab:
        yield lab


@pytest.fixture(scope="module")
def stack(shared_lab: SwarmLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack on the Swarm, with two replicas; the module's tests leave it as they found it."""
    deployed = Stack(shared_lab, tmp_path_factory.mktemp("stack"))
    try:
        deployed.deploy()
        yield deployed
    finally:
        deployed.close()


@pytest.fixture(scope="module")
def network(shared_lab: SwarmLab) -> Iterator[str]:
    """The name of an overlay network of the module's own."""
    with overlay_network(shared_lab) as name:
        yield name


@pytest.fixture(scope="module")
def endpoint(shared_lab: SwarmLab, network: str) -> Iterator[NetworkEndpoint]:
    """A place in the module's network."""
    endpoint = NetworkEndpoint(shared_lab.manager, network, 8888, KERNEL_IMAGE)
    yield endpoint
    endpoint.close()


@pytest.fixture
async def proxy(rig: ProxyRig) -> BaseProcessProxyABC:
    """Return a started process proxy."""
    return await rig.open_proxy()


@pytest.fixture
async def watcher(proxy: BaseProcessProxyABC) -> AsyncIterator[Watcher]:
    """Return a follower of the process proxy."""
    watcher = Watcher(proxy)
    yield watcher
    await watcher.close()
