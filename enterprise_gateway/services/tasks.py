"""Tasks that run in the background: each has an owner that keeps it, and ends it on close."""

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class BackgroundTasks:
    """The tasks that one object has begun and that have not ended yet.

    asyncio itself keeps no reference to a task, so a task without an owner may be collected
    before it ends.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._by_key: dict[Hashable, asyncio.Task[Any]] = {}

    def begin(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Begin work. Cancelling the caller does not cancel the work."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def begin_once(
        self, key: Hashable, work: Callable[[], Coroutine[Any, Any, _T]]
    ) -> asyncio.Task[_T]:
        """Begin work unless that of the same key is under way; return the task in either case.

        Args:
            key: what the work is about; the same key must always mean the same kind of work.
            work: makes the coroutine, only if it is to run.
        """
        task: asyncio.Task[_T] | None = self._by_key.get(key)
        if task is None or task.done():
            task = self._by_key[key] = self.begin(work())
            task.add_done_callback(functools.partial(self._release, key))
        return task

    def find(self, key: Hashable) -> asyncio.Task[Any] | None:
        """Return the work of a key that is under way, if any."""
        task = self._by_key.get(key)
        return task if task is not None and not task.done() else None

    def is_running(self, key: Hashable) -> bool:
        """Say whether the work of a key is under way."""
        return self.find(key) is not None

    async def wait(self, task: asyncio.Task[_T]) -> _T:
        """Wait for work that has begun, and return its result.

        Cancelling this does not cancel the work; its failure is logged then.
        """
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            raise

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do work to its end, even if the caller is cancelled."""
        return await self.wait(self.begin(work))

    async def finish(self, seconds: float | None = None) -> None:
        """Wait for the tasks, then cancel those that are left.

        Args:
            seconds: how long to wait; None: until all have ended.
        """
        if self._tasks:
            done, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*done, *late, return_exceptions=True)

    async def cancel(self) -> None:
        """Cancel the tasks, and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _release(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        if self._by_key.get(key) is task:
            del self._by_key[key]


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("Background work failed after its caller had left: %s", error)
