"""Decides whether a kernel in another container is alive. Pure: the caller passes the time."""

from __future__ import annotations

from enum import Enum
from typing import Optional

REFUSED_SECONDS = 0.5
"""How long connections must be refused until the kernel counts as dead."""
SILENT_SECONDS = 15.0
"""The same for connections without an answer: packets get lost, and hosts may be slow."""


class ProbeResult(Enum):
    """The result of an attempt to connect."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NO_ANSWER = "no answer"


class LivenessProbe:
    """Decides by the results of connection attempts whether a kernel is alive."""

    def __init__(self) -> None:
        self._has_been_seen = False
        self._missed_since: Optional[float] = None
        self._refused_since: Optional[float] = None

    @property
    def is_known_alive(self) -> bool:
        """Whether the latest attempt showed that the kernel is alive."""
        return self._has_been_seen and self._missed_since is None

    def confirm_started(self) -> None:
        """Count refusals from now on: the kernel is known to have listened."""
        self._has_been_seen = True

    def record(self, result: ProbeResult, now: float) -> bool:
        """Record an attempt; return whether the kernel is dead.

        A launcher reports ports before it opens them, so refusals count only after the first
        accepted connection, or `confirm_started`.
        """
        if result is ProbeResult.ACCEPTED:
            self._has_been_seen = True
            self._missed_since = self._refused_since = None
            return False
        if not self._has_been_seen:
            return False
        if self._missed_since is None:
            self._missed_since = now
        if result is not ProbeResult.REFUSED:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        is_refused = self._refused_since is not None and (
            now - self._refused_since >= REFUSED_SECONDS
        )
        return is_refused or now - self._missed_since >= SILENT_SECONDS
