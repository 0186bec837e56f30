"""A feed of workload changes for any number of followers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from enterprise_gateway.services.processproxies.contract import Workload


class Changes:
    """The changes that one follower has not received yet.

    Only the newest state of each kernel's workload is kept, so a slow follower needs little memory.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Workload] = {}
        self._available = asyncio.Event()

    def add(self, workload: Workload) -> None:
        """Add a change, which replaces an earlier one of the same kernel."""
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
    """Passes published changes on to all followers."""

    def __init__(self) -> None:
        self._followers: set[Changes] = set()

    def publish(self, workload: Workload) -> None:
        """Pass a change on to all followers."""
        for changes in self._followers:
            changes.add(workload)

    @contextmanager
    def follow(self) -> Iterator[Changes]:
        """Collect changes from now on, until the context is left."""
        changes = Changes()
        self._followers.add(changes)
        try:
            yield changes
        finally:
            self._followers.discard(changes)
