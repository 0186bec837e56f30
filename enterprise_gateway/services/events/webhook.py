"""The sink that posts events to a URL, one by one and in order, until each was taken."""

import asyncio
import logging
import random
import time
from http import HTTPStatus

import aiohttp

from enterprise_gateway.services.events.bus import Entry, Subscription
from enterprise_gateway.services.events.signature import signed_headers

MAX_WAITING = 10_000
ATTEMPT_SECONDS = 10.0
"""How long the receiver may take to answer."""
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 60.0
DELIVERY_SECONDS = 900.0
"""For how long one event is tried before the next one gets its turn."""
_LATER = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
"""Client errors after which the same request may succeed."""

_log = logging.getLogger(__name__)


class _RefusedError(Exception):
    """The receiver will never take this event."""


class _LaterError(Exception):
    """The receiver does not take it now."""


class Webhook:
    """Posts events to one receiver."""

    def __init__(self, url: str, key: bytes) -> None:
        """Prepare; `run` posts.

        Args:
            url: `http` or `https`.
            key: signs the requests.
        """
        self._url = url
        self._key = key
        self._is_failing = False

    async def run(self, subscription: Subscription) -> None:
        """Post the events of a subscription until it is closed."""
        timeout = aiohttp.ClientTimeout(total=ATTEMPT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as http:
            while batch := await subscription.next_batch():
                for entry in batch:
                    try:
                        await self._deliver(http, entry)
                    except (_RefusedError, _LaterError) as exc:
                        subscription.count_lost(1)
                        self._report(f"An event was not delivered to event_webhook_url: {exc}")

    async def _deliver(self, http: aiohttp.ClientSession, entry: Entry) -> None:
        """Post an event until the receiver has taken it.

        Raises:
            _RefusedError: it refuses it.
            _LaterError: it did not take it in time.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + DELIVERY_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._post(http, entry)
            except _LaterError as exc:
                if loop.time() + pause >= end:
                    raise
                self._report(f"event_webhook_url takes no events now: {exc}")
            else:
                if self._is_failing:
                    self._is_failing = False
                    _log.info("event_webhook_url takes events again")
                return
            # Replicas that were refused at the same moment come back at different ones.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    async def _post(self, http: aiohttp.ClientSession, entry: Entry) -> None:
        headers = {
            "Content-Type": "application/json",
            **signed_headers(self._key, entry.id, int(time.time()), entry.data),
        }
        try:
            async with http.post(
                self._url, data=entry.data, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            # the text of the exception may hold the URL, and that a password
            raise _LaterError(type(exc).__name__) from exc
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
            raise _LaterError(f"status {status}")
        raise _RefusedError(f"status {status}")

    def _report(self, text: str) -> None:
        """Log a failure, but not each of a series."""
        _log.log(logging.DEBUG if self._is_failing else logging.WARNING, "%s", text)
        self._is_failing = True
