"""Gateways of this process, with a fake or the real engine behind them."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.engines.fake_engine import FakeEngine, proxies_of
from harness.gateways.service import Service, make_settings, serve_settings

from enterprise_gateway.services import composition
from enterprise_gateway.settings import LiveSettings


@pytest.fixture
def live() -> Iterator[LiveSettings]:
    """Settings that the test may replace while the gateway runs."""
    # Not in the test's own folder: paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="egt") as folder:
        yield LiveSettings(make_settings(Path(folder)))


@pytest.fixture
async def engine(
    live: LiveSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FakeEngine]:
    """The engine behind the gateways of this test."""
    fake = FakeEngine(live, tmp_path)
    monkeypatch.setattr(composition, "ProxyRegistry", proxies_of(fake))
    yield fake
    await fake.discard()


@pytest.fixture
async def service(engine: FakeEngine, live: LiveSettings) -> AsyncIterator[Service]:
    """A gateway with the fake engine."""
    del engine
    async with serve_settings(live) as served:
        yield served


@pytest.fixture
async def real_service(live: LiveSettings) -> AsyncIterator[Service]:
    """A gateway with local kernels; those that the test leaves are ended."""
    async with serve_settings(live) as served:
        yield served
        for model in await served.get("/api/kernels"):
            await served.ask("DELETE", f"/api/kernels/{model['id']}")
