"""What a gateway that is told to stop still does: it finishes what it has begun."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from enterprise_gateway.settings import KernelSettings
from enterprise_gateway.web.errors import Handler

LINGER_SECONDS = 1.0
"""How long open connections may still bring a request, which a load balancer has sent already."""
GRACE_SECONDS = 5.0
"""What a request may need beyond the deadlines of what it is about."""

CloseChannels = Callable[[], Awaitable[None]]


class Drain:
    """Knows what is in progress; one per server.

    Attributes:
        is_stopping: whether no more work should come here.
        connections: how many clients are connected.
    """

    def __init__(self) -> None:
        self.is_stopping = False
        self.closers: list[CloseChannels] = []
        """Called when the gateway begins to stop, for what would go on for ever."""
        self._requests = 0
        self.connections = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request; tell its client to connect elsewhere if the gateway stops meanwhile."""
        self._requests += 1
        self._is_idle.clear()
        try:
            response = await handler(request)
        finally:
            self._requests -= 1
            if not self._requests:
                self._is_idle.set()
        if self.is_stopping:
            response.force_close()
        return response

    def count_connections(self, change: int) -> None:
        """Note that a connection began (1) or ended (-1)."""
        self.connections += change
        if self.connections:
            self._is_empty.clear()
        else:
            self._is_empty.set()

    async def finish(self, seconds: float) -> None:
        """Close what would go on for ever, and wait for the requests in progress."""
        self.is_stopping = True
        for close in self.closers:
            await close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._is_empty.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_idle.wait()


DRAIN = web.AppKey("drain", Drain)


def longest_request_seconds(kernels: KernelSettings) -> float:
    """Return how long a request may take at most, unless its client allows a launch more time."""
    restart = kernels.kernel_info_timeout + 1.5 * kernels.shutdown_wait_time
    return max(kernels.launch_timeout, restart) + GRACE_SECONDS
