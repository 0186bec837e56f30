"""When an idle kernel is ended. Pure: the caller brings the time."""

from __future__ import annotations

from typing import NamedTuple, Optional

from kernel_agent.settings import CullingSettings


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
    due = usage.idle_since + settings.cull_idle_timeout - now
    interval = max(settings.cull_interval, MIN_INTERVAL)
    return min(max(due, MIN_INTERVAL), interval) if due > 0 else interval


MIN_INTERVAL = 0.1
"""Seconds; keeps a `cull_interval` of 0 from becoming a busy loop."""
