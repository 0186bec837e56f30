"""Workloads that have ended, by kernel id, for as long as late news of them may arrive."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState

TOMBSTONE_SECONDS = 300.0
"""How long clients are told why a kernel died."""
RELAUNCH_SECONDS = 1.0
"""The same once the dead workload was removed: another replica may launch its kernel again."""
ENDED_SECONDS = 2 * TOMBSTONE_SECONDS
"""How long news of a workload that has ended is not taken for a new kernel, or a new death.

This is longer than engines keep the dead.
"""


@dataclass(frozen=True, slots=True)
class _Ended:
    workload: Workload
    timer: asyncio.TimerHandle


class EndedKernels:
    """Remembers which workloads have ended, and expires the records of dead kernels."""

    def __init__(self) -> None:
        self._ended: dict[str, _Ended] = {}
        self._failed: dict[str, asyncio.TimerHandle] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}

    def close(self) -> None:
        """Stop all timers."""
        timers = [one.timer for one in self._ended.values()]
        for timer in (*timers, *self._failed.values(), *self._expiries.values()):
            timer.cancel()

    def mark(self, workload: Workload) -> None:
        """Remember that a workload has ended."""
        kernel_id = workload.kernel_id
        self.unmark(kernel_id)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(ENDED_SECONDS, self._ended.pop, kernel_id)
        self._ended[kernel_id] = _Ended(workload, timer)

    def mark_failed(self, kernel_id: str) -> None:
        """Remember that a launch of this replica failed, so that its client got no kernel."""
        self.unmark(kernel_id)
        loop = asyncio.get_running_loop()
        self._failed[kernel_id] = loop.call_later(ENDED_SECONDS, self._failed.pop, kernel_id)

    def unmark(self, kernel_id: str) -> None:
        """Forget what is remembered of a kernel id: it has another workload."""
        ended = self._ended.pop(kernel_id, None)
        timers = [
            ended.timer if ended is not None else None,
            self._failed.pop(kernel_id, None),
            self._expiries.pop(kernel_id, None),
        ]
        for timer in timers:
            if timer is not None:
                timer.cancel()

    def covers(self, workload: Workload) -> bool:
        """Say whether news of a workload is of one that is remembered as ended."""
        if workload.state is WorkloadState.DEAD and workload.kernel_id in self._failed:
            return True
        ended = self._ended.get(workload.kernel_id)
        return ended is not None and not workload.succeeds(ended.workload)

    def expire_later(self, kernel_id: str, forget: Callable[[], None], seconds: float) -> None:
        """Call `forget` for a dead kernel after some time; a later call replaces an earlier one."""
        former = self._expiries.pop(kernel_id, None)
        if former is not None:
            former.cancel()
        self._expiries[kernel_id] = asyncio.get_running_loop().call_later(seconds, forget)
