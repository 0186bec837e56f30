"""When an idle kernel is ended. The decision is pure; `Culler` brings it the time."""

from __future__ import annotations

import asyncio
from typing import Callable, Mapping, NamedTuple, Optional

from kernel_agent.settings import CullingSettings, change_culling

MIN_INTERVAL = 0.1
"""Seconds; keeps a `cull_interval` of 0 from becoming a busy loop."""


class Usage(NamedTuple):
    """What the decision depends on."""

    idle_since: float
    is_busy: bool
    connections: int


def decide_culling(now: float, usage: Usage, settings: CullingSettings) -> bool:
    """Return whether the kernel must go now."""
    return (
        settings.cull_idle_timeout > 0
        and now - usage.idle_since >= settings.cull_idle_timeout
        and (settings.cull_busy or not usage.is_busy)
        and (settings.cull_connected or usage.connections == 0)
    )


def next_check(now: float, usage: Usage, settings: CullingSettings) -> Optional[float]:
    """Return after how many seconds to decide again; None if culling is off."""
    if settings.cull_idle_timeout <= 0:
        return None
    interval = max(settings.cull_interval, MIN_INTERVAL)
    due = usage.idle_since + settings.cull_idle_timeout - now
    return min(max(due, MIN_INTERVAL), interval) if due > 0 else interval


class Culler:
    """Decides again and again, and ends the kernel once."""

    def __init__(
        self, settings: CullingSettings, usage: Callable[[], Usage], cull: Callable[[float], None]
    ) -> None:
        """Prepare; `start` begins.

        Args:
            settings: at launch.
            usage: tells what the decision depends on, by the event loop's clock.
            cull: ends the kernel, which was idle for so many seconds.
        """
        self._settings = settings
        self._usage = usage
        self._cull = cull
        self._loop = asyncio.get_running_loop()
        self._timer: Optional[asyncio.TimerHandle] = None

    def start(self) -> None:
        """Decide now, and from now on."""
        self.stop()
        now = self._loop.time()
        usage = self._usage()
        if decide_culling(now, usage, self._settings):
            self._cull(now - usage.idle_since)
            return
        delay = next_check(now, usage, self._settings)
        if delay is not None:
            self._timer = self._loop.call_later(delay, self.start)

    def change(self, changes: Mapping[str, object]) -> None:
        """Put some settings in force.

        Raises:
            SettingsError: one of them is unknown or has the wrong type; none is in force then.
        """
        self._settings = change_culling(self._settings, changes)
        self.start()

    def stop(self) -> None:
        """Decide no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
