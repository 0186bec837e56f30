"""Removing workloads that may not be there yet.

An engine carries out what it was asked for even when the asker has been killed meanwhile: a
container or service may appear after its launch was given up. And an engine that is away cannot
remove anything until it is back.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.processproxies.engine_watch import EngineWatch

SETTLE_TIME = 10.0
"""Seconds during which an engine may still carry out what a killed launch script had asked of it.
"""
_RETRY_PAUSE = 1.0


class LateRemovals:
    """Removes the workloads of launches that were given up, until none can appear."""

    def __init__(self, watch: EngineWatch) -> None:
        self._watch = watch
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = asyncio.Event()

    def begin(self, kernel_id: str, remove: Callable[[], Awaitable[None]]) -> None:
        """Begin to call `remove`, whenever something of a kernel appears."""
        if not self._closing.is_set():
            task = asyncio.create_task(self._keep_removing(kernel_id, remove))
            self._tasks[kernel_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(kernel_id, None))

    async def wait(self, kernel_id: str) -> None:
        """Wait until nothing of a kernel will appear any more."""
        task = self._tasks.get(kernel_id)
        if task is not None:
            await asyncio.shield(task)

    async def close(self) -> None:
        """Look one last time, without waiting for what may come."""
        self._closing.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _keep_removing(self, kernel_id: str, remove: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        settled = loop.time() + SETTLE_TIME
        appeared = asyncio.Event()
        closing = asyncio.create_task(self._closing.wait())
        with self._watch.observe(kernel_id, lambda *_: appeared.set()):
            clean = True
            while not self._closing.is_set() and (not clean or loop.time() < settled):
                pause = settled - loop.time() if clean else _RETRY_PAUSE
                woken = asyncio.create_task(appeared.wait())
                await asyncio.wait(
                    {woken, closing}, timeout=max(0.0, pause), return_when=asyncio.FIRST_COMPLETED
                )
                woken.cancel()
                appeared.clear()
                clean = await _succeeds(remove)
        closing.cancel()


async def _succeeds(remove: Callable[[], Awaitable[None]]) -> bool:
    with contextlib.suppress(UnavailableError):
        await remove()
        return True
    return False
