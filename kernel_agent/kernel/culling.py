"""Decides when an idle kernel is ended. Pure: `Culler` passes the time."""

from __future__ import annotations

from typing import NamedTuple, Optional

from kernel_agent.settings import CullingSettings

MIN_INTERVAL_SECONDS = 0.1
"""Lower bound of the interval, so that a `cull_interval` of 0 is no busy loop."""


class Usage(NamedTuple):
    """Input of the decision."""

    idle_since: float
    is_busy: bool
    connections: int
    """Those of clients that answer and may do more than read."""


def decide_culling(now: float, usage: Usage, settings: CullingSettings) -> bool:
    """Return whether to end the kernel now."""
    return (
        settings.cull_idle_timeout > 0
        and now - usage.idle_since >= settings.cull_idle_timeout
        and (settings.cull_busy or not usage.is_busy)
        and (settings.cull_connected or usage.connections == 0)
    )


def next_check(now: float, usage: Usage, settings: CullingSettings) -> Optional[float]:
    """Return the seconds until the next decision; None if culling is off."""
    if settings.cull_idle_timeout <= 0:
        return None
    interval = max(settings.cull_interval, MIN_INTERVAL_SECONDS)
    due = usage.idle_since + settings.cull_idle_timeout - now
    return min(max(due, MIN_INTERVAL_SECONDS), interval) if due > 0 else interval
