"""The process proxies that the contract suite is run on.

docs/writing-process-proxies.md says how to add another.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.engines.swarm import NetworkEndpoint, enter_network
from harness.proxies.engine_rigs import DockerRig, SwarmRig
from harness.proxies.rigs import LocalRig, ProxyRig

from swarmlab.lab import SwarmLab


@pytest.fixture
def local_rig(tmp_path: Path) -> LocalRig:
    """Local processes."""
    return LocalRig(tmp_path)


@pytest.fixture
def docker_rig(tmp_path: Path) -> DockerRig:
    """Containers."""
    return DockerRig(tmp_path)


@pytest.fixture
def swarm_rig(
    shared_lab: SwarmLab,
    network: str,
    endpoint: NetworkEndpoint,
    tmp_path: Path,
) -> Iterator[SwarmRig]:
    """Services; the test is in their network."""
    with enter_network(endpoint):
        rig = SwarmRig.of(tmp_path, shared_lab, network)
        rig.change_delays(tombstone_seconds=3.0)
        yield rig


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
