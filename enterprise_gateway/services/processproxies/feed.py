"""Changes of workloads, handed to any number of followers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from enterprise_gateway.services.processproxies.contract import Workload


class Changes:
    """What one follower has not seen yet.

    Only the newest state of each workload is kept: no follower is ever behind by more than one
    change for each kernel, however slow it is.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Workload] = {}
        self._available = asyncio.Event()

    def put(self, workload: Workload) -> None:
        """Add a change; it takes the place of an earlier one of the same kernel."""
        self._pending.pop(workload.kernel_id, None)
        self._pending[workload.kernel_id] = workload
        self._available.set()

    async def __aiter__(self) -> AsyncIterator[Workload]:
        while True:
            await self._available.wait()
            yield self._pending.pop(next(iter(self._pending)))
            if not self._pending:
                self._available.clear()


class WorkloadFeed:
    """Passes what is published on to everybody who follows."""

    def __init__(self) -> None:
        self._followers: set[Changes] = set()

    def publish(self, workload: Workload) -> None:
        """Tell all followers."""
        for changes in self._followers:
            changes.put(workload)

    @contextmanager
    def follow(self) -> Iterator[Changes]:
        """Collect changes from now on, until the context is left."""
        changes = Changes()
        self._followers.add(changes)
        try:
            yield changes
        finally:
            self._followers.discard(changes)
