"""The Docker process proxy, on the engine of the environment."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.proxies.engine_rigs import DockerRig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DockerRig]:
    """Return a rig whose containers are removed afterwards."""
    rig = DockerRig(tmp_path)
    yield rig
    await rig.close()
