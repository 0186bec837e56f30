"""Removing workloads that may appear later.

An engine carries out a request even if the program that sent it has been killed: a container or
service may appear after its launch was given up. And an engine that is away removes nothing until
it is back.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.processproxies.watch.base import EngineWatch
from enterprise_gateway.settings import LiveSettings

_RETRY_SECONDS = 1.0


class DeferredRemovals:
    """Removes the workloads of failed launches until no more can appear."""

    def __init__(self, watch: EngineWatch, settings: LiveSettings) -> None:
        self._watch = watch
        self._settings = settings
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = asyncio.Event()

    def schedule(self, kernel_id: str, remove: Callable[[], Awaitable[None]]) -> None:
        """Call `remove` whenever a workload of the kernel appears, for some seconds."""
        if not self._closing.is_set():
            task = asyncio.create_task(self._keep_removing(kernel_id, remove))
            self._tasks[kernel_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(kernel_id, None))

    async def wait(self, kernel_id: str) -> None:
        """Wait until no workload of an earlier launch of the kernel can appear any more."""
        task = self._tasks.get(kernel_id)
        if task is not None:
            await asyncio.shield(task)

    async def close(self) -> None:
        """Remove what is there now, without waiting for what may appear."""
        self._closing.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _keep_removing(self, kernel_id: str, remove: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        settled = loop.time() + self._settings.current.delays.engine_settle_seconds
        appeared = asyncio.Event()
        closing = asyncio.create_task(self._closing.wait())
        with self._watch.subscribe(kernel_id, lambda _: appeared.set()):
            clean = True
            while not self._closing.is_set() and (not clean or loop.time() < settled):
                pause = settled - loop.time() if clean else _RETRY_SECONDS
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
