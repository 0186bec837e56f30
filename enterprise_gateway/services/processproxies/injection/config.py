"""The agent's bundle as a Swarm config, which Swarm copies to the node of each kernel."""

import base64

import msgspec

from enterprise_gateway.errors import ConflictError, NotFoundError
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.injection.bundle import LABELS, AgentBundle

MAX_CONFIG_BYTES = 500_000
"""The largest config that every version of Swarm accepts."""


class _Config(msgspec.Struct, frozen=True):
    """The answer to `GET /configs/NAME` (API 1.41)."""

    id: str = msgspec.field(name="ID")


class AgentConfig:
    """Provides the bundle in a swarm. Looks it up each time, as an operator may remove it."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine

    async def ensure(self, bundle: AgentBundle) -> str:
        """Return the id of the bundle's config, which is created if there is none."""
        try:
            return await self._find(bundle.name)
        except NotFoundError:
            pass
        data = base64.b64encode(bundle.content).decode()
        try:
            async with self._engine.request() as docker:
                made = await docker.configs.create(bundle.name, data, b64=True, labels=LABELS)
        except ConflictError:  # another gateway has created it
            return await self._find(bundle.name)
        return str(made["ID"])

    async def _find(self, name: str) -> str:
        return (await self._engine.fetch(f"configs/{name}", _Config)).id
