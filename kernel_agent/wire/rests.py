"""What is left of the oldest part of the log once that was too large or too old. Pure."""

from __future__ import annotations

from bisect import bisect_left
from typing import Callable, List, Sequence, Tuple

from kernel_agent.wire.entries import DROPPED_FIRST, NO_SESSION, Entry
from kernel_agent.wire.message import EMPTY, IOPUB, STDIN, Message

TRIM_TARGET = 0.875
"""Part of the limit that remains after a search, so that each message does not cost one."""
REPLY_FRACTION = 8
"""A reply larger than this fraction of the limit is replaced."""


class Rests:
    """Entries that stayed when the ones around them were dropped, oldest first.

    Results and errors stay as long as there is room; replies, input requests and statuses as long
    as a client session is still owed them, and of them, too, the oldest go when there is no room.
    """

    def __init__(
        self,
        max_bytes: int,
        is_owed: Callable[[Entry], bool],
        shrink: Callable[[Message], Message],
    ) -> None:
        """Make an empty one.

        Args:
            max_bytes: most that the entries count together.
            is_owed: whether a client session has not acknowledged an entry that is no output.
            shrink: returns the replacement of a reply that is too large to stay.
        """
        self._max_bytes = max_bytes
        self._is_owed = is_owed
        self._shrink = shrink
        self.entries: List[Entry] = []
        self.size = 0
        self.lost_parent = b""
        """Parent header of the last output that was dropped behind the last entry."""

    def add(self, entries: Sequence[Entry], *, with_results: bool) -> None:
        """Add what is to stay of newer entries; `with_results`: output other than streams, too."""

        def stays(entry: Entry) -> bool:
            if entry.output_size or entry.to == NO_SESSION:
                return with_results and entry.message.msg_type not in DROPPED_FIRST
            return self._is_owed(entry)

        kept, self.lost_parent = _thin(entries, stays, self.lost_parent)
        kept = [self._shrunk(entry) for entry in kept]
        self.entries += kept
        self.size += sum(entry.message.size for entry in kept)
        if self.size > self._max_bytes:
            self._trim()

    def between(self, start: int, end: int) -> List[Entry]:
        """Return the entries with numbers from `start` on, and below `end`."""
        return self.entries[bisect_left(self.entries, (start,)) : bisect_left(self.entries, (end,))]

    def forget_acknowledged(self) -> None:
        """Drop what no client session is owed any more, but results."""
        self._drop(lambda entry: not _is_result(entry) and not self._is_owed(entry))

    def _trim(self) -> None:
        target = int(self._max_bytes * TRIM_TARGET)
        self.forget_acknowledged()
        for may_go in (_is_result, lambda _: True):
            if self.size <= target:
                return
            excess = self.size - target

            def goes(entry: Entry, may_go: Callable[[Entry], bool] = may_go) -> bool:
                nonlocal excess
                if excess <= 0 or not may_go(entry):
                    return False
                excess -= entry.message.size
                return True

            self._drop(goes)

    def _drop(self, goes: Callable[[Entry], bool]) -> None:
        kept, lost_parent = _thin(self.entries, lambda entry: not goes(entry), b"")
        self.entries = kept
        self.size = sum(entry.message.size for entry in kept)
        self.lost_parent = _later(lost_parent, self.lost_parent)

    def _shrunk(self, entry: Entry) -> Entry:
        message = entry.message
        if message.channel in (IOPUB, STDIN) or message.size <= self._max_bytes // REPLY_FRACTION:
            return entry
        return entry._replace(message=self._shrink(message))


def _is_result(entry: Entry) -> bool:
    return bool(entry.output_size) or entry.to == NO_SESSION


def _thin(
    entries: Sequence[Entry], stays: Callable[[Entry], bool], lost_parent: bytes
) -> Tuple[List[Entry], bytes]:
    """Return the entries that stay, and the parent header of the output dropped behind the last.

    The first one that stays behind a gap gets the parent header of the last output in it.
    `lost_parent` is that of the output dropped directly before the entries.
    """
    kept: List[Entry] = []
    for entry in entries:
        lost_parent = _later(lost_parent, entry.lost_parent)
        if stays(entry):
            kept.append(entry._replace(lost_parent=lost_parent) if lost_parent else entry)
            lost_parent = b""
        elif entry.output_size:
            lost_parent = _later(lost_parent, entry.message.parts[1])
    return kept, lost_parent


def _later(first: bytes, second: bytes) -> bytes:
    """Return the later of two parent headers; output without one is shown under the earlier."""
    return first or second if second in (b"", EMPTY) else second
