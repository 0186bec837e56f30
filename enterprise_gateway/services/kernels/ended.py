"""Workloads that ended, by kernel id, for as long as somebody may ask or late news may arrive."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

FORGET_SECONDS = 60.0
"""How long news of a workload that was ended on purpose is not taken for a new kernel."""
TOMBSTONE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class _Ended:
    created: float
    timer: asyncio.TimerHandle


class Ended:
    """Remembers which workloads have ended, and buries the dead."""

    def __init__(self) -> None:
        self._ended: dict[str, _Ended] = {}
        self._tombstones: dict[str, asyncio.TimerHandle] = {}

    def close(self) -> None:
        """Forget everything."""
        for handle in (*(one.timer for one in self._ended.values()), *self._tombstones.values()):
            handle.cancel()

    def mark(self, kernel_id: str, created: float) -> None:
        """Note that the workload of that creation time was ended on purpose."""
        self.unmark(kernel_id)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(FORGET_SECONDS, self._ended.pop, kernel_id)
        self._ended[kernel_id] = _Ended(created, timer)

    def unmark(self, kernel_id: str) -> None:
        """Forget what was noted: there is another workload of that id."""
        ended = self._ended.pop(kernel_id, None)
        if ended is not None:
            ended.timer.cancel()
        tombstone = self._tombstones.pop(kernel_id, None)
        if tombstone is not None:
            tombstone.cancel()

    def covers(self, kernel_id: str, created: float) -> bool:
        """Say whether news of a workload of that creation time is of one that has ended.

        Engines know whole seconds; later than that there is another workload of the same id.
        """
        ended = self._ended.get(kernel_id)
        return ended is not None and created < ended.created + 1.0

    def bury(self, kernel_id: str, forget: Callable[[], None]) -> None:
        """Have a dead kernel forgotten after some minutes."""
        loop = asyncio.get_running_loop()
        self._tombstones[kernel_id] = loop.call_later(TOMBSTONE_SECONDS, forget)
