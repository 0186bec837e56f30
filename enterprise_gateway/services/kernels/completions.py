"""Work that must come to its end once begun, whoever waits for it."""

import asyncio
import logging
from collections.abc import Coroutine

_log = logging.getLogger(__name__)


class Completions:
    """Tasks that outlive the requests that began them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Begin work; `wait` tells its outcome."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, task: asyncio.Task[None]) -> None:
        """Wait for work that has begun. Cancelling this does not cancel the work."""
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_report)
            raise

    async def run(self, work: Coroutine[None, None, None]) -> None:
        """Do work, to the end even if the caller is cancelled."""
        await self.wait(self.begin(work))

    async def close(self, seconds: float) -> None:
        """Wait for what is under way, then cancel what is left."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    """Log the failure of work that nobody waits for any more."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("Nobody waited for this failure: %s", error)
