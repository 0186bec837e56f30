"""The Docker process proxy, on the engine of the environment."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.engine_rigs import DockerRig

from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the containers of a failed test."""
    report = yield
    rig = getattr(item, "funcargs", {}).get("rig")
    if report.failed and report.when == "call" and isinstance(rig, DockerRig):
        report.sections.append(("containers", rig.dump()))
    return report


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DockerRig]:
    """Return a rig whose containers are removed afterwards."""
    rig = DockerRig(tmp_path)
    yield rig
    await rig.close()


@pytest.fixture
async def proxy(rig: DockerRig) -> BaseProcessProxyABC:
    """Return a started process proxy."""
    return await rig.open_proxy()
