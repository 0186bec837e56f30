"""The process proxies that the contract suite is run on."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.engine_rigs import DockerRig, SwarmRig
from harness.proxies import LocalRig, ProxyRig
from harness.swarm import Seat, enter_network

from bringup.swarm_lab import SwarmLab
from enterprise_gateway.services.processproxies import swarm_broom


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
