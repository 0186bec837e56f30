"""The Swarm of all tests, for tests that may break its nodes, and replicas in it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.engine_rigs import EngineRig, SwarmRig
from harness.proxies import Watcher
from harness.replica import ReplicaGroup
from harness.swarm import KERNEL_IMAGE, Seat, enter_network, overlay_network, restore

from bringup.swarm_lab import SwarmLab
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the services of a failed test."""
    report = yield
    rig = getattr(item, "funcargs", {}).get("rig")
    if report.failed and report.when == "call" and isinstance(rig, EngineRig):
        report.sections.append(("services", rig.dump()))
    return report


@pytest.fixture
def lab(shared_lab: SwarmLab) -> Iterator[SwarmLab]:
    """A Swarm whose nodes are ready, before the test and after it."""
    yield shared_lab
    restore(shared_lab)


@pytest.fixture(scope="module")
def network(shared_lab: SwarmLab) -> Iterator[str]:
    """The name of an overlay network of the module's own."""
    with overlay_network(shared_lab) as name:
        yield name


@pytest.fixture
def replicas(lab: SwarmLab, network: str, tmp_path: Path) -> Iterator[ReplicaGroup]:
    """Two running replicas, on the first two nodes."""
    group = ReplicaGroup(tmp_path, lab, network, lab.nodes[:2])
    try:
        group.start()
        yield group
    finally:
        group.close()


@pytest.fixture(scope="module")
def seat(shared_lab: SwarmLab, network: str) -> Iterator[Seat]:
    """A place in the module's network."""
    seat = Seat(shared_lab.manager, network, 8888, KERNEL_IMAGE)
    yield seat
    seat.close()


@pytest.fixture
async def rig(lab: SwarmLab, network: str, seat: Seat, tmp_path: Path) -> AsyncIterator[SwarmRig]:
    """Return a rig whose services are removed afterwards; the test is in their network."""
    with enter_network(seat):
        rig = SwarmRig.of(tmp_path, lab, network)
        yield rig
        await rig.close()


@pytest.fixture
async def proxy(rig: SwarmRig) -> BaseProcessProxyABC:
    """Return a started process proxy."""
    return await rig.open_proxy()


@pytest.fixture
async def watcher(proxy: BaseProcessProxyABC) -> AsyncIterator[Watcher]:
    """Return a follower of the process proxy."""
    watcher = Watcher(proxy)
    yield watcher
    await watcher.close()
