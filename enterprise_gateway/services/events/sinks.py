"""The sinks that the settings name."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from enterprise_gateway.services.events import lines, log_lines, webhook
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.settings import Settings

CLOSE_SECONDS = 3.0
"""How long the sinks may take for what is left when the gateway stops."""
LOG = "log"
"""Value of `event_log` that stands for the gateway's own log."""


@asynccontextmanager
async def running(bus: EventBus, settings: Settings) -> AsyncIterator[None]:
    """Run the sinks of the settings; on the way out they get what is left.

    Raises:
        ConfigurationError: the file of events cannot be written.
    """
    tasks = [asyncio.create_task(sink) for sink in _make(bus, settings)]
    try:
        yield
    finally:
        bus.close()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _make(bus: EventBus, settings: Settings) -> list[Coroutine[Any, Any, None]]:
    events = settings.events
    made: list[Coroutine[Any, Any, None]] = []
    if events.log == LOG:
        made.append(log_lines.log_events(bus.subscribe("log", log_lines.MAX_WAITING)))
    elif events.log:
        file = lines.EventFile(Path(events.log))
        made.append(lines.write_lines(file, bus.subscribe("file", lines.MAX_WAITING)))
    if events.webhook_url:
        hook = webhook.Webhook(events.webhook_url, settings.event_webhook_key)
        made.append(hook.run(bus.subscribe("webhook", webhook.MAX_WAITING)))
    return made
