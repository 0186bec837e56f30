"""Ends an idle kernel, by the event loop's clock."""

from __future__ import annotations

import asyncio
from typing import Callable, Mapping, Optional

from kernel_agent.kernel.culling import Usage, decide_culling, next_check
from kernel_agent.settings import CullingSettings, change_culling


class Culler:
    """Repeats the decision, and ends the kernel once."""

    def __init__(
        self,
        settings: CullingSettings,
        usage: Callable[[], Usage],
        cull: Callable[[str], None],
        watch_gpus: Callable[[], None],
    ) -> None:
        """Prepare; `start` starts it.

        Args:
            settings: settings at launch.
            usage: returns the input of the decision, by the event loop's clock.
            cull: ends the kernel; called with the reason.
            watch_gpus: has the input tell how long GPUs are idle from now on; may be called again.
        """
        self._settings = settings
        self._usage = usage
        self._cull = cull
        self._watch_gpus = watch_gpus
        self._loop = asyncio.get_running_loop()
        self._timer: Optional[asyncio.TimerHandle] = None

    def start(self) -> None:
        """Decide now, and schedule the next decision."""
        self.stop()
        if self._settings.cull_gpu_idle_timeout > 0:
            self._watch_gpus()
        now = self._loop.time()
        usage = self._usage()
        reason = decide_culling(now, usage, self._settings)
        if reason:
            self._cull(reason)
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
