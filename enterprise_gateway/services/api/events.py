"""`/api/events`: the events of kernels as server-sent events, for admins."""

import asyncio
import math
import time

from aiohttp import web

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.events.bus import EventBus, Subscription
from enterprise_gateway.services.events.server_sent import (
    CONTENT_TYPE,
    HEARTBEAT,
    PREAMBLE,
    encode_entries,
)
from enterprise_gateway.services.users import USER, User

MAX_STREAMS = 64
MAX_WAITING = 2000
"""How many events may wait for a slow reader."""
HEARTBEAT_SECONDS = 15.0
STREAM_SECONDS = 900.0
"""How long a stream lasts: a reader then shows its token again."""
WRITE_SECONDS = 60.0
"""How long a reader may take nothing."""
MAX_ID_CHARS = 64

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The second has nginx pass each event on at once."""


class EventStreams:
    """The streams that are open."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._open: dict[Subscription, str] = {}
        """With the credential of its reader."""
        self._is_closed = False

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this module, relative to the base URL."""
        return [web.get("/api/events", self._stream, allow_head=False)]

    async def close(self) -> None:
        """End every stream, so that its reader connects to another gateway."""
        self._is_closed = True
        for subscription in list(self._open):
            self._bus.unsubscribe(subscription)

    def revoke(self, credential: str) -> None:
        """End the streams of a credential that is valid no more."""
        for subscription, opened_with in list(self._open.items()):
            if opened_with == credential:
                self._bus.unsubscribe(subscription)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Stream the events of this replica from now on, or from the last one that was had."""
        if self._is_closed:
            raise UnavailableError("This gateway is shutting down", retry_after=1.0)
        if len(self._open) >= MAX_STREAMS:
            raise UnavailableError(
                f"{MAX_STREAMS} streams of events are open through this gateway, and it serves no "
                "more. Close one of them."
            )
        last = request.headers.get("Last-Event-ID")
        since = last[:MAX_ID_CHARS] if last else None
        subscription = self._bus.subscribe("stream", MAX_WAITING, since)
        self._open[subscription] = request[USER].credential
        try:
            response = web.StreamResponse(headers=_HEADERS)
            response.content_type = CONTENT_TYPE
            await response.prepare(request)
            await self._write_all(response, subscription, _seconds_of(request[USER]))
            await response.write_eof()
        finally:
            self._open.pop(subscription, None)
            self._bus.unsubscribe(subscription)
        return response

    async def _write_all(
        self, response: web.StreamResponse, subscription: Subscription, seconds: float
    ) -> None:
        """Write events for that long at most."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        await _write(response, PREAMBLE)
        while (left := end - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, HEARTBEAT_SECONDS)):
                    batch = await subscription.next_batch()
            except TimeoutError:
                await _write(response, HEARTBEAT)
                continue
            if not batch:
                return
            await _write(response, encode_entries(batch, subscription.take_dropped()))


def _seconds_of(user: User) -> float:
    """Return how long a stream of a user lasts: no longer than their credential."""
    left = math.inf if user.expires is None else user.expires - time.time()
    return min(STREAM_SECONDS, left)


async def _write(response: web.StreamResponse, data: bytes) -> None:
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            await response.write(data)
    except TimeoutError as exc:
        raise ConnectionResetError("the reader takes nothing") from exc
