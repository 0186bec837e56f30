"""The process proxies that the contract suite is run on."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.engine_rigs import DockerRig, EngineRig, SwarmRig
from harness.proxies import LocalRig, ProxyRig, Watcher
from harness.swarm import KERNEL_IMAGE, Seat, enter_network, overlay_network

from bringup.swarm_lab import SwarmLab
from enterprise_gateway.services.processproxies import swarm_broom
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the containers of a failed test."""
    report = yield
    rig = getattr(item, "funcargs", {}).get("rig")
    if report.failed and report.when == "call" and isinstance(rig, EngineRig):
        report.sections.append(("containers", rig.dump()))
    return report


@pytest.fixture
def local_rig(tmp_path: Path) -> LocalRig:
    """Local processes."""
    return LocalRig(tmp_path)


@pytest.fixture
def docker_rig(tmp_path: Path) -> DockerRig:
    """Containers."""
    return DockerRig(tmp_path)


@pytest.fixture(scope="module")
def network(shared_lab: SwarmLab) -> Iterator[str]:
    """The name of an overlay network of the Swarm."""
    with overlay_network(shared_lab) as name:
        yield name


@pytest.fixture(scope="module")
def seat(shared_lab: SwarmLab, network: str) -> Iterator[Seat]:
    """A place in the network."""
    seat = Seat(shared_lab.manager, network, 8888, KERNEL_IMAGE)
    yield seat
    seat.close()


@pytest.fixture
def swarm_rig(
    shared_lab: SwarmLab,
    network: str,
    seat: Seat,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SwarmRig]:
    """Services; the test is in their network."""
    monkeypatch.setattr(swarm_broom, "DEATH_DELAY", 3.0)
    with enter_network(seat):
        yield SwarmRig.of(tmp_path, shared_lab, network)


@pytest.fixture(
    params=[
        pytest.param("local_rig", marks=pytest.mark.kernel),
        pytest.param("docker_rig", marks=[pytest.mark.kernel, pytest.mark.docker]),
        pytest.param("swarm_rig", marks=[pytest.mark.kernel, pytest.mark.docker]),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[ProxyRig]:
    """Return a rig whose kernels are removed afterwards."""
    rig: ProxyRig = request.getfixturevalue(request.param)
    yield rig
    await rig.close()


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
