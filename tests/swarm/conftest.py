"""The Swarm of all tests, for tests that may break its nodes, and replicas in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.replica import ReplicaGroup
from harness.swarm import overlay_network, restore

from bringup.swarm_lab import SwarmLab


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
