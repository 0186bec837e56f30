"""When to read what a kernel publishes. Pure: the caller brings the time."""

from __future__ import annotations

LONG_RUN = 16
"""After so many messages, each soon after the one before, the next ones are gathered. What a short
cell publishes never waits."""
GAP = 0.002
"""Seconds of silence that end a run."""
GATHER_TIME = 0.002
"""Seconds for which messages are gathered."""


class Pace:
    """Tells a run of messages that come one by one from single ones.

    Each of a run would cost a turn of the event loop and a write, in the agent and in the gateway;
    several that are read together share both.
    """

    def __init__(self) -> None:
        self._length = 0
        self._latest = 0.0
        self._is_gathering = False

    def note(self, count: int, now: float) -> float:
        """Take note that all messages there were have been read, `count` of them.

        Returns:
            For how long to leave the next ones; 0: read them at once.
        """
        if self._is_gathering:
            self._is_gathering = count > 1
            self._length = 0
        else:
            self._length = count if now - self._latest > GAP else self._length + count
            self._is_gathering = self._length >= LONG_RUN
        self._latest = now
        return GATHER_TIME if self._is_gathering else 0.0

    def end_run(self) -> None:
        """Read the next messages at once: somebody may wait for them."""
        self._length = 0
        self._is_gathering = False
