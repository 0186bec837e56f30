"""The sink that writes events to the gateway's log."""

import json
import logging

from enterprise_gateway.services.events.bus import Subscription

MAX_WAITING = 10_000

_log = logging.getLogger("enterprise_gateway.events")


async def log_events(subscription: Subscription) -> None:
    """Log the events of a subscription until it is closed: as text, and as `event` in JSON logs."""
    while batch := await subscription.next_batch():
        for entry in batch:
            _log.info("%s", entry.data.decode(), extra={"event": json.loads(entry.data)})
