"""Workloads that ended, by kernel id, for as long as somebody may ask or late news may arrive."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from enterprise_gateway.services.processproxies.contract import Workload

TOMBSTONE_SECONDS = 300.0
FORGET_SECONDS = 2 * TOMBSTONE_SECONDS
"""How long news of a workload that has ended is not taken for a new kernel, or a new death: longer
than engines keep the dead.
"""


@dataclass(frozen=True, slots=True)
class _Ended:
    workload: Workload
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

    def mark(self, workload: Workload) -> None:
        """Note that a workload has ended."""
        kernel_id = workload.kernel_id
        self.unmark(kernel_id)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(FORGET_SECONDS, self._ended.pop, kernel_id)
        self._ended[kernel_id] = _Ended(workload, timer)

    def unmark(self, kernel_id: str) -> None:
        """Forget what was noted: there is another workload of that id."""
        ended = self._ended.pop(kernel_id, None)
        if ended is not None:
            ended.timer.cancel()
        tombstone = self._tombstones.pop(kernel_id, None)
        if tombstone is not None:
            tombstone.cancel()

    def covers(self, workload: Workload) -> bool:
        """Say whether news of a workload is of one that has ended."""
        ended = self._ended.get(workload.kernel_id)
        return ended is not None and not workload.succeeds(ended.workload)

    def bury(
        self, kernel_id: str, forget: Callable[[], None], seconds: float = TOMBSTONE_SECONDS
    ) -> None:
        """Have a dead kernel forgotten after some time."""
        former = self._tombstones.pop(kernel_id, None)
        if former is not None:
            former.cancel()
        self._tombstones[kernel_id] = asyncio.get_running_loop().call_later(seconds, forget)
