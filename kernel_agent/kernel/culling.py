"""Decides when an idle kernel is ended. Pure: `Culler` passes the time."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Optional, Tuple

from kernel_agent.settings import CullingSettings

MIN_INTERVAL_SECONDS = 0.1
"""Lower bound of the interval, so that a `cull_interval` of 0 is no busy loop."""


class Usage(NamedTuple):
    """Input of the decision."""

    idle_since: float
    is_busy: bool
    connections: int
    """Those of clients that answer and may do more than read."""
    gpus_idle_since: Optional[float] = None
    """None: there are no GPUs, or it is not known."""


def decide_culling(now: float, usage: Usage, settings: CullingSettings) -> str:
    """Return why to end the kernel now; "": it goes on."""
    if usage.is_busy and not settings.cull_busy:
        return ""
    if usage.connections and not settings.cull_connected:
        return ""
    for what, since, timeout in _clocks(usage, settings):
        if now - since >= timeout:
            return f"{what} idle for {now - since:.0f} s"
    return ""


def next_check(now: float, usage: Usage, settings: CullingSettings) -> Optional[float]:
    """Return the seconds until the next decision; None if culling is off."""
    if settings.cull_idle_timeout <= 0 and settings.cull_gpu_idle_timeout <= 0:
        return None
    interval = max(settings.cull_interval, MIN_INTERVAL_SECONDS)
    due = [since + timeout - now for _, since, timeout in _clocks(usage, settings)]
    ahead = [seconds for seconds in due if seconds > 0]
    return min(max(min(ahead), MIN_INTERVAL_SECONDS), interval) if ahead else interval


def _clocks(usage: Usage, settings: CullingSettings) -> Iterator[Tuple[str, float, float]]:
    """Yield what is idle, since when, and how long it may be."""
    if settings.cull_idle_timeout > 0:
        yield "it was", usage.idle_since, settings.cull_idle_timeout
    if settings.cull_gpu_idle_timeout > 0 and usage.gpus_idle_since is not None:
        yield "its GPUs were", usage.gpus_idle_since, settings.cull_gpu_idle_timeout
