"""The Swarm of all tests, for tests that may break its nodes, and replicas in it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.engines.swarm import NetworkEndpoint, enter_network, restore
from harness.gateways.replica import ReplicaGroup
from harness.proxies.engine_rigs import SwarmRig

from swarmlab.lab import SwarmLab


@pytest.fixture
def lab(shared_lab: SwarmLab) -> Iterator[SwarmLab]:
    """A Swarm whose nodes are ready, before the test and after it."""
    yield shared_lab
    restore(shared_lab)


@pytest.fixture(scope="module")
def group(
    shared_lab: SwarmLab, network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReplicaGroup]:
    """Two replicas for all tests of the module, on the first two nodes."""
    nodes = shared_lab.nodes[:2]
    made = ReplicaGroup(tmp_path_factory.mktemp("group"), shared_lab, network, nodes)
    with made.running():
        yield made


@pytest.fixture(autouse=True)
def _leave_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove what a test leaves, pass or fail, to the replicas that it shares with the next."""
    shared = [
        request.getfixturevalue(name) for name in ("group", "trio") if name in request.fixturenames
    ]
    yield
    for replicas in shared:
        replicas.remove_kernels()


@pytest.fixture
def replicas(lab: SwarmLab, network: str, tmp_path: Path) -> Iterator[ReplicaGroup]:
    """Two replicas of the test's own, on the first two nodes."""
    with ReplicaGroup(tmp_path, lab, network, lab.nodes[:2]).running() as made:
        yield made


@pytest.fixture
async def rig(
    lab: SwarmLab, network: str, endpoint: NetworkEndpoint, tmp_path: Path
) -> AsyncIterator[SwarmRig]:
    """Return a rig whose services are removed afterwards; the test is in their network."""
    with enter_network(endpoint):
        rig = SwarmRig.of(tmp_path, lab, network)
        yield rig
        await rig.close()
