"""Decides when to read iopub: at once, or in batches. Pure: the caller passes the time."""

from __future__ import annotations

LONG_RUN_MESSAGES = 16
"""Length of a run, messages in quick succession, from which on the next ones are gathered. The
output of a short cell is never delayed."""
MAX_GAP_SECONDS = 0.005
"""Silence that ends a run."""
GATHER_SECONDS = 0.01
"""How long messages are gathered: no eye sees it, and a line every few milliseconds costs half."""
DENSE_GATHER_SECONDS = 0.002
"""The same while many bytes come, which wait in the network and in the kernel."""
DENSE_BYTES_PER_SECOND = 8_000_000


class ReadBatching:
    """Detects runs of messages that arrive one by one.

    Each of them would cost a turn of the event loop and a write, in the agent and in the gateway;
    messages that are read together share both.
    """

    def __init__(self) -> None:
        self._length = 0
        self._latest = 0.0
        self._is_gathering = False

    def record_read(self, count: int, size: int, now: float) -> float:
        """Record that all available messages were read.

        Args:
            count: how many there were.
            size: their bytes.
            now: the time.

        Returns:
            Seconds to wait before the next read; 0: read as soon as messages arrive.
        """
        gap, self._latest = now - self._latest, now
        if self._is_gathering:
            self._is_gathering = count > 1
            self._length = 0
        else:
            self._length = count if gap > MAX_GAP_SECONDS else self._length + count
            self._is_gathering = self._length >= LONG_RUN_MESSAGES
        if not self._is_gathering:
            return 0.0
        is_dense = size > DENSE_BYTES_PER_SECOND * gap
        return DENSE_GATHER_SECONDS if is_dense else GATHER_SECONDS

    def end_run(self) -> None:
        """End the run, so that the next messages are read at once."""
        self._length = 0
        self._is_gathering = False
