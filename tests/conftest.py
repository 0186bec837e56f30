"""Fixtures shared by the tests that need a whole gateway."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.compose import ComposeProject
from harness.gateway import Gateway
from harness.stack import Stack

from bringup.images import SWARM_IMAGES
from bringup.swarm_lab import SwarmLab, swarm_lab

LOG_TAIL_CHARS = 20_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the log of every gateway that a failed test used."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Gateway | Stack | ComposeProject):
                report.sections.append(("gateway log", value.read_log()[-LOG_TAIL_CHARS:]))
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
