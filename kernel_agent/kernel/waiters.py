"""Those who wait until a kernel that is restarted is ready."""

from __future__ import annotations

import asyncio
from typing import List, Optional

from kernel_agent.kernel.lifecycle import KernelDeadError
from kernel_agent.process.exits import ExitReason


class Waiters:
    """All who wait; each learns the outcome once."""

    def __init__(self) -> None:
        self._futures: "List[asyncio.Future[None]]" = []

    def add(self) -> "asyncio.Future[None]":
        """Return a future that is done when the kernel is ready.

        It raises KernelDeadError if the kernel will not be.
        """
        future: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        return future

    def release(self) -> None:
        """Tell all that the kernel is ready."""
        for future in self._take():
            future.set_result(None)

    def fail(self, reason: Optional[ExitReason]) -> None:
        """Tell all that the kernel is dead."""
        for future in self._take():
            future.set_exception(KernelDeadError(reason))

    def _take(self) -> "List[asyncio.Future[None]]":
        futures, self._futures = self._futures, []
        return [future for future in futures if not future.done()]
