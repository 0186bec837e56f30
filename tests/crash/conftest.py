"""Gateways whose kernels do not try for long to report to one that was killed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.gateways.gateway import Gateway

REPORT_SECONDS = 8
SHORT_DELAYS = {"EG_TEST_DELAYS": json.dumps({"agent_report_seconds": REPORT_SECONDS})}


@pytest.fixture
def short_delays() -> dict[str, str]:
    """Variables for a gateway."""
    return SHORT_DELAYS


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A running gateway that the test may kill."""
    own = Gateway(tmp_path / "gateway", env=SHORT_DELAYS)
    try:
        own.start()
        yield own
    finally:
        own.close()
