"""The steps of a kernel's start that the agent sees, and how long each takes.

Importing this must stay cheap, since it is imported before the kernel is spawned.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict

AGENT, KERNEL, REPORT = "agent", "kernel", "report"
"""From the beginning of the agent's process, the kernel's process, and the report."""
END, SPARE = "end", "spare"
"""Of a restart: the end of the kernel's former process; in place of KERNEL, a spare going on."""
MAX_AGE_SECONDS = 3600.0
"""A process that seems older has its times from another clock, as in some sandboxes."""
PROC_STAT = "/proc/self/stat"
_START_TIME = 19
"""Position in /proc/PID/stat after the parenthesised command, proc(5)."""


class Steps:
    """The steps of one start or restart: each ends when the next one begins."""

    def __init__(self, first: str, begun: float) -> None:
        """Begin the first step.

        Args:
            first: its name.
            begun: when it has begun, by `time.monotonic`.
        """
        self._begun = self._since = begun
        self._step = first
        self._ended: Dict[str, float] = {}

    def begin(self, step: str) -> None:
        """Begin a step. One that was there before goes on."""
        now = time.monotonic()
        self._ended = self._until(now)
        self._step, self._since = step, now

    def describe(self) -> Dict[str, Any]:
        """Return the steps up to now, the `start` of the wire contract."""
        now = time.monotonic()
        steps = {step: round(seconds, 3) for step, seconds in self._until(now).items()}
        return {"seconds": round(now - self._begun, 3), "steps": steps}

    def _until(self, now: float) -> Dict[str, float]:
        present = self._ended.get(self._step, 0.0) + now - self._since
        return {**self._ended, self._step: present}


def process_begun() -> float:
    """Return when this process was created, by `time.monotonic`.

    Whatever executed the agent, such as a shell, was the same process.
    """
    now = time.monotonic()
    try:
        with open(PROC_STAT, encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[_START_TIME])
    except (OSError, ValueError, IndexError):
        return now
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return now - age if 0 < age < MAX_AGE_SECONDS else now
