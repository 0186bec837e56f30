"""The kernel's log: every message that the kernel sent, once, numbered, within limits. Pure.

It has three parts, oldest first: rests, of which most was dropped; segments in the spill; segments
in memory. When the memory is full its oldest segment is spilled, or reduced to rests if there is no
spill; when the spill is full, or a segment is too old, the oldest segment is reduced to rests. Only
the newest segment always stays as it is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Callable, List, NamedTuple, Optional, Tuple

from kernel_agent.wire.entries import ALL_SESSIONS, Entry, Position, output_size
from kernel_agent.wire.message import IOPUB, Message
from kernel_agent.wire.request_index import RequestIndex, Span
from kernel_agent.wire.rests import Rests
from kernel_agent.wire.segments import Segment, Spill, unpack

SEGMENT_BYTES = 256 * 1024
"""Size from which on a segment is closed."""
SEGMENT_SECONDS = 60.0
"""Age from which on a segment is closed: the age limit holds for segments."""
LEAST_SEGMENTS = 16
"""A small log has smaller segments: at least so many fit in the memory."""
RESTS_FRACTION = 4
"""Rests take at most this fraction of the memory."""


class Limits(NamedTuple):
    """Limits of a log."""

    memory_bytes: int
    spill_bytes: int = 0
    max_age: float = float("inf")
    """In seconds."""


class MessageLog:
    """An append-only sequence of messages of which the oldest are dropped. Numbers begin with 0."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float],
        *,
        shrink: Callable[[Message], Message],
        spill: Optional[Spill] = None,
    ) -> None:
        """Make an empty log.

        Args:
            limits: its limits.
            clock: returns seconds.
            shrink: returns the replacement of a reply that is too large to be kept.
            spill: where old segments go; needed if `spill_bytes` is not 0.
        """
        self._limits = limits
        self.max_memory_bytes = limits.memory_bytes
        """The limit of `memory_bytes`. Only the newest segment may be above it."""
        self._clock = clock
        self._spill = spill
        self._max_spilled = limits.spill_bytes if spill is not None else 0
        self._segment_bytes = min(SEGMENT_BYTES, limits.memory_bytes // LEAST_SEGMENTS)
        self._segments: List[Segment] = []
        self._firsts: List[int] = []
        self._spilled = 0
        self._memory = 0
        self._spilled_bytes = 0
        self._loaded: Optional[Tuple[Segment, List[Entry]]] = None
        self._rests = Rests(limits.memory_bytes // RESTS_FRACTION, self._is_owed, shrink)
        self._is_owed_to_a_client: Callable[[Entry], bool] = lambda _: True
        self._newest_status = -1
        self._index = RequestIndex()
        self._listeners: List[Callable[[Entry], None]] = []
        self.position = Position(0, 0, 0)
        """That of the next entry."""
        self._whole_from = self.position
        self._begin_segment(clock())

    @property
    def end(self) -> int:
        """Number of the next entry."""
        return self.position.number

    @property
    def memory_bytes(self) -> int:
        """Size of the messages in memory."""
        return self._memory + self._rests.size

    @property
    def spilled_bytes(self) -> int:
        """Bytes in the spill."""
        return self._spilled_bytes

    def subscribe(self, listener: Callable[[Entry], None]) -> Callable[[], None]:
        """Call `listener` with each entry after its append; return a function that ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def keep_while(self, is_owed: Callable[[Entry], bool]) -> None:
        """Keep entries other than output as long as `is_owed` says so and there is room."""
        self._is_owed_to_a_client = is_owed

    def append(self, message: Message, to: int = ALL_SESSIONS) -> int:
        """Append a message; return its number."""
        position = self.position
        number, outputs, output_bytes = position
        size = message.size
        droppable = output_size(message, to)
        self._index.record(message, position)
        now = self._clock()
        segment = self._segments[-1]
        if segment.size and (
            segment.size + size > self._segment_bytes or now - segment.opened > SEGMENT_SECONDS
        ):
            segment = self._begin_segment(now)
        entry = Entry(number, message, to, outputs, output_bytes, droppable)
        segment.entries.append(entry)  # type: ignore[union-attr]  # the newest segment is in memory
        segment.size += size
        segment.latest = now
        self._memory += size
        if droppable:
            self.position = Position(number + 1, outputs + 1, output_bytes + droppable)
        else:
            self.position = Position(number + 1, outputs, output_bytes)
            if message.channel == IOPUB:
                self._newest_status = number
        if self._memory + self._rests.size > self.max_memory_bytes:
            self._make_room()
        for listener in list(self._listeners):
            listener(entry)
        return number

    def read(self, start: int, max_bytes: int) -> List[Entry]:
        """Return the first entries from number `start` on that are still there.

        At least one if there are any, and about `max_bytes`.
        """
        newest = self._segments[-1]
        if start > newest.first:
            return _take(newest.entries or [], start, max_bytes)
        found = _take(self._rests.entries, start, max_bytes)
        size = sum(entry.message.size for entry in found)
        while size < max_bytes:
            entries = self._entries_from(found[-1].number + 1 if found else start)
            if entries is None:
                break
            more = _take(entries, found[-1].number + 1 if found else start, max_bytes - size)
            size += sum(entry.message.size for entry in more)
            found += more
        return found

    def lost_between(self, begin: Position, end: Position) -> Tuple[int, int]:
        """Return how much of the output between two positions is gone: messages, and their size."""
        end = min(end, self._whole_from)
        if begin.number >= end.number:
            return 0, 0
        kept = [entry.output_size for entry in self._rests.between(begin.number, end.number)]
        messages = end.outputs - begin.outputs - sum(size > 0 for size in kept)
        return messages, end.output_bytes - begin.output_bytes - sum(kept)

    def find(self, msg_id: str) -> Optional[Span]:
        """Return where the messages of a request are or were; None if that is not known."""
        return self._index.find(msg_id)

    def expire(self) -> float:
        """Reduce segments to rests that are too old; return the seconds until the next one is."""
        now = self._clock()
        oldest_allowed = now - self._limits.max_age
        newest = self._segments[-1]
        if newest.size and newest.latest <= oldest_allowed:
            self._begin_segment(now)
        while len(self._segments) > 1 and self._segments[0].latest <= oldest_allowed:
            self._reduce_oldest(with_results=False)
        self._rests.forget_acknowledged()
        oldest = self._segments[0]
        return oldest.latest - oldest_allowed if oldest.size else self._limits.max_age

    def _is_owed(self, entry: Entry) -> bool:
        """Return whether an entry that is no output must stay; the newest status always must."""
        return entry.number == self._newest_status or self._is_owed_to_a_client(entry)

    def _begin_segment(self, now: float) -> Segment:
        """Close the newest segment, and begin the next.

        Its entries are packed, unless it is one large message. The first readers find it unpacked.
        """
        if self._segments:
            newest = self._segments[-1]
            if newest.entries and newest.size <= self._segment_bytes:
                self._memory -= newest.size
                self._loaded = (newest, newest.entries)
                newest.pack()
                self._memory += newest.size
        segment = Segment(self.end, now)
        self._segments.append(segment)
        self._firsts.append(segment.first)
        return segment

    def _make_room(self) -> None:
        while (
            self.memory_bytes > self._limits.memory_bytes
            and self._spilled < len(self._segments) - 1
        ):
            if not self._spill_oldest():
                self._reduce_oldest(with_results=True)

    def _spill_oldest(self) -> bool:
        """Write the oldest segment in memory; return False if there is no room for it."""
        spill = self._spill
        segment = self._segments[self._spilled]
        if spill is None or not self._max_spilled:
            return False
        pieces = segment.pieces()
        size = sum(map(len, pieces))
        if size > self._max_spilled:
            return False
        while self._spilled and self._spilled_bytes + size > self._max_spilled:
            self._reduce_oldest(with_results=True)
        location = spill.write(pieces)
        if location is None:
            self._max_spilled = self._spilled_bytes  # the disk takes no more than that
            return False
        segment.location = location
        segment.stored_size = size
        segment.entries = segment.data = None
        self._memory -= segment.size
        self._spilled_bytes += size
        self._spilled += 1
        return True

    def _reduce_oldest(self, *, with_results: bool) -> None:
        """Drop the oldest segment but for its rests."""
        segment = self._segments[0]
        entries = self._load(segment)
        if entries is None:
            return  # it was unreadable, and is gone
        self._remove(segment)
        self._whole_from = entries[-1].next_position
        self._rests.add(entries, with_results=with_results)

    def _remove(self, segment: Segment) -> None:
        index = self._segments.index(segment)
        del self._segments[index], self._firsts[index]
        if self._loaded is not None and self._loaded[0] is segment:
            self._loaded = None
        if not segment.stored_size:
            self._memory -= segment.size
            return
        self._spilled -= 1
        self._spilled_bytes -= segment.stored_size
        if self._spill is not None:
            self._spill.free(segment.location)

    def _entries_from(self, number: int) -> Optional[List[Entry]]:
        """Return the entries of the first segment that has `number` or newer ones; None: none."""
        while True:
            index = max(bisect_right(self._firsts, number) - 1, 0)
            segment = self._segments[index]
            entries = self._load(segment)
            if entries is None:
                continue
            if entries and entries[-1].number >= number:
                if index == 0 and self._rests.lost_parent:
                    first = entries[0]._replace(lost_parent=self._rests.lost_parent)
                    return [first, *entries[1:]]
                return entries
            if index + 1 == len(self._segments):
                return None
            number = self._segments[index + 1].first

    def _load(self, segment: Segment) -> Optional[List[Entry]]:
        """Return the entries of a segment; remove it and return None if it cannot be read."""
        if segment.entries is not None:
            return segment.entries
        if self._loaded is not None and self._loaded[0] is segment:
            return self._loaded[1]
        data = segment.data
        if data is None and self._spill is not None:
            data = self._spill.read(segment.location)
        if data is None:
            self._remove(segment)
            return None
        entries = unpack(data)
        if segment.stored_size <= 2 * SEGMENT_BYTES:
            self._loaded = (segment, entries)
        return entries


def _take(entries: List[Entry], start: int, max_bytes: int) -> List[Entry]:
    """Return entries from number `start` on, at least one if there is one."""
    if not entries or entries[-1].number < start:
        return []
    low = bisect_left(entries, (start,))
    size = 0
    for index in range(low, len(entries)):
        size += entries[index].message.size
        if size >= max_bytes:
            return entries[low : index + 1]
    return entries[low:]
