"""What can be asked of an engine about a workload, be it a container or a service."""

from collections.abc import Mapping
from typing import Protocol

from enterprise_gateway.services.processproxies.companion import Companion


class EngineWorkloads(Protocol):
    """The containers, or the services, of one cluster of gateways.

    Where an engine's id is taken, a name will do. Whatever is asked may raise `UnavailableError`.
    """

    async def labels(self, engine_id: str, /) -> Mapping[str, str]:
        """Return the labels of a workload.

        Raises:
            NotFoundError: it is gone.
        """

    async def environment(self, engine_id: str, /) -> dict[str, str]:
        """Return the variables that a workload was made with; its image's are not among them.

        Raises:
            NotFoundError: it is gone.
        """

    async def log_tail(self, engine_id: str, /, max_lines: int) -> str:
        """Return the last lines that a workload printed, "" if it is gone."""

    async def remove(self, engine_id: str, /) -> None:
        """Remove a workload by force; gone already is no error."""

    async def create_companion(self, companion: Companion) -> None:
        """Have the engine make and start a companion.

        Raises:
            LaunchError: it cannot, and says why.
        """
