"""The process proxies that the contract suite is run on."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.proxies import DockerRig, LocalRig, ProxyRig, Watcher, engine_dump

from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC

RIGS = {"local": LocalRig, "docker": DockerRig}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the containers of a failed test."""
    report = yield
    rig = getattr(item, "funcargs", {}).get("rig")
    if report.failed and report.when == "call" and isinstance(rig, DockerRig):
        report.sections.append(("containers", engine_dump(rig.username)))
    return report


@pytest.fixture(
    params=[
        pytest.param("local", marks=pytest.mark.kernel),
        pytest.param("docker", marks=[pytest.mark.kernel, pytest.mark.docker]),
    ]
)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ProxyRig]:
    """Return a rig whose kernels are removed before and after."""
    rig = RIGS[request.param](tmp_path)
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
