"""Ends a kernel at its longest age, by the event loop's clock; its clients are warned before."""

from __future__ import annotations

import asyncio
from typing import Callable, List


class Lifetime:
    """The longest life of a kernel."""

    def __init__(
        self,
        max_age: float,
        warning: float,
        warn: Callable[[float], None],
        end: Callable[[], None],
    ) -> None:
        """Prepare; `start` starts it.

        Args:
            max_age: seconds from the start to the end; 0: there is no end.
            warning: seconds before the end at which `warn` is called; 0: it is not.
            warn: tells the clients that the end comes in so many seconds.
            end: ends the kernel.
        """
        self._max_age = max_age
        self._warning = min(warning, max_age)
        self._warn = warn
        self._end = end
        self._timers: List[asyncio.TimerHandle] = []

    def start(self) -> None:
        """Count from now on."""
        self.stop()
        if self._max_age <= 0:
            return
        loop = asyncio.get_running_loop()
        if self._warning > 0:
            delay = self._max_age - self._warning
            self._timers.append(loop.call_later(delay, self._warn, self._warning))
        self._timers.append(loop.call_later(self._max_age, self._end))

    def stop(self) -> None:
        """Count no more."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def describe_seconds(seconds: float) -> str:
    """Return a time as a person reads it: `8 h`, `90 min`, `45 s`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
