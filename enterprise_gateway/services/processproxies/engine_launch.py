"""One workload on its way up: how far it has come, and why it got no further."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection

from enterprise_gateway.services.processproxies.contract import WorkloadState
from enterprise_gateway.services.processproxies.engine_watch import Sighting

OUTPUT_TAIL_BYTES = 4096


class LaunchProgress(ABC):
    """The observer of the launch of one kernel."""

    def __init__(self, predecessors: Collection[str]) -> None:
        """Begin to observe.

        Args:
            predecessors: engine ids of the kernel's former workloads, whose end means nothing.
        """
        self._predecessors = predecessors
        self.latest: Sighting | None = None
        """None as long as there is no workload."""
        self.moved = asyncio.Event()
        """Set at each sighting."""
        self.death: asyncio.Future[Sighting] = asyncio.get_running_loop().create_future()

    def observe(self, sighting: Sighting) -> None:
        """Take note of what `EngineWatch` saw."""
        if sighting.engine_id in self._predecessors:
            return
        self.latest = sighting
        self.moved.set()
        if sighting.workload.state is WorkloadState.DEAD and not self.death.done():
            self.death.set_result(sighting)

    def close(self) -> None:  # noqa: B027 - a hook: not every kind has something to release
        """Stop observing."""

    @abstractmethod
    async def explain_death(self) -> str:
        """Say why the workload died, and what it printed last."""

    @abstractmethod
    def describe_start(self) -> str:
        """Say what a workload that does not run yet is waiting for, as a sentence."""
