"""Draining: a gateway that is told to stop finishes the requests in progress."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from enterprise_gateway.settings import KernelSettings
from enterprise_gateway.web.errors import Handler

LINGER_SECONDS = 1.0
"""How long open connections may still bring a request that a load balancer sent before."""
GRACE_SECONDS = 5.0
"""How much longer than the deadlines of its work a request may take."""

Closer = Callable[[], Awaitable[None]]


class RequestDrain:
    """Counts the requests and connections in progress; one per server.

    Attributes:
        is_stopping: whether the gateway takes no more work.
        closers: called when the gateway begins to stop, to end what would go on for ever.
        connections: how many clients are connected.
    """

    def __init__(self) -> None:
        self.is_stopping = False
        self.closers: list[Closer] = []
        self._requests = 0
        self.connections = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request."""
        self._requests += 1
        self._is_idle.clear()
        try:
            return await handler(request)
        finally:
            self._requests -= 1
            if not self._requests:
                self._is_idle.set()

    def close_after(self, response: web.StreamResponse) -> None:
        """Tell the client in a response's head to connect again, if the gateway is stopping."""
        if self.is_stopping and response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            response.force_close()
            response.headers["Connection"] = "close"  # aiohttp has set its own headers already

    def count_connections(self, change: int) -> None:
        """Count a connection that begins (1) or ends (-1)."""
        self.connections += change
        if self.connections:
            self._is_empty.clear()
        else:
            self._is_empty.set()

    async def finish(self, seconds: float) -> None:
        """Run the closers, then wait for the connections and requests in progress."""
        self.is_stopping = True
        for close in self.closers:
            await close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._is_empty.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_idle.wait()


DRAIN = web.AppKey("drain", RequestDrain)


def longest_request_seconds(kernels: KernelSettings) -> float:
    """Return how long a request may take at most, unless its client allows a launch more time."""
    restart = kernels.kernel_info_timeout + 1.5 * kernels.shutdown_wait_time
    return max(kernels.launch_timeout, restart) + GRACE_SECONDS
