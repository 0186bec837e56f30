"""The size of client messages that the kernel has not taken: back-pressure on clients. Pure."""

from __future__ import annotations

from typing import Callable, List

FULL_BYTES = 16 * 1024 * 1024
"""From this size on nothing more is read from clients."""


class Backlog:
    """A byte count with a high-water mark, and callbacks for when it falls below."""

    def __init__(self, full_bytes: int = FULL_BYTES) -> None:
        self._full_bytes = full_bytes
        self._size = 0
        self._waiters: List[Callable[[], None]] = []

    @property
    def is_full(self) -> bool:
        """Whether clients must wait."""
        return self._size >= self._full_bytes

    def add(self, size: int) -> None:
        """Count bytes that came from a client."""
        self._size += size

    def remove(self, size: int) -> None:
        """Count bytes that the kernel took, or that were dropped; call waiters if there is room."""
        self._size -= size
        if self.is_full or not self._waiters:
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter()

    def when_relieved(self, waiter: Callable[[], None]) -> None:
        """Call `waiter` once, as soon as the backlog is no longer full."""
        self._waiters.append(waiter)
