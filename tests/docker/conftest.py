"""The Docker process proxy, on the engine of the environment."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.agents.relay import Relay
from harness.proxies.engine_rigs import DockerRig

from enterprise_gateway.services.processproxies.engine import client as docker_engine


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DockerRig]:
    """Return a rig whose containers are removed afterwards."""
    rig = DockerRig(tmp_path)
    yield rig
    await rig.close()


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    """Return a relay to the engine of the environment."""
    host = os.environ.get("DOCKER_HOST") or docker_engine.DEFAULT_HOST
    relay = Relay(tmp_path / "engine.sock", host.removeprefix("unix://"))
    await relay.open()
    yield relay
    relay.thaw()
    await relay.close()
