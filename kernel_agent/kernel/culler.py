"""Ends an idle kernel, by the event loop's clock."""

from __future__ import annotations

import asyncio
from typing import Callable, Mapping, Optional

from kernel_agent.kernel.culling import Usage, decide_culling, next_check
from kernel_agent.settings import CullingSettings, change_culling


class Culler:
    """Repeats the decision, and ends the kernel once."""

    def __init__(
        self, settings: CullingSettings, usage: Callable[[], Usage], cull: Callable[[float], None]
    ) -> None:
        """Prepare; `start` starts it.

        Args:
            settings: settings at launch.
            usage: returns the input of the decision, by the event loop's clock.
            cull: ends the kernel; called with the seconds for which it was idle.
        """
        self._settings = settings
        self._usage = usage
        self._cull = cull
        self._loop = asyncio.get_running_loop()
        self._timer: Optional[asyncio.TimerHandle] = None

    def start(self) -> None:
        """Decide now, and schedule the next decision."""
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
        """Apply changed settings.

        Raises:
            SettingsError: one of them is unknown or has the wrong type; none is applied.
        """
        self._settings = change_culling(self._settings, changes)
        self.start()

    def stop(self) -> None:
        """Cancel the next decision."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
