"""What one client was sent of the log, and what it has acknowledged. Pure.

Nothing is kept for each message: a client is owed a few ranges of the log, of which the last has no
end. Sending advances the first one. A ping stands for what was owed when it was sent, and its pong
(RFC 6455 section 5.5.3) acknowledges everything sent before it. After a lost connection the client
is owed again what it was owed at the latest pong.
"""

from __future__ import annotations

from typing import Callable, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from kernel_agent.wire.entries import ALL_SESSIONS, Entry, Loss, Position
from kernel_agent.wire.message import EMPTY, Message
from kernel_agent.wire.message_log import MessageLog

MAX_PINGS = 64
"""Pings remembered; a client that answers none of them gets the same messages again anyway."""
MAX_RANGES = 16
"""Ranges owed at most: a client that takes nothing on so many connections loses the oldest."""
READ_BYTES = 256 * 1024
UNDER_WAY_BYTES = 16 * 1024 * 1024
"""More than this is not on its way to a client that reads; one that answers no ping may leave the
whole log unacknowledged."""
LARGE_BYTES = 16 * 1024
"""Average size of waiting messages from which on a slow client may pause the kernel's output."""


class Range(NamedTuple):
    """A part of the log of which a client is owed some entries.

    Attributes:
        position: where it begins.
        end: where it ends; None if it has no end.
        key: key of the client session whose own entries belong to it.
        is_own_only: whether entries for all sessions do not.
        requests: if not None, the entries with these parents are all that belongs to it.
    """

    position: Position
    end: Optional[Position]
    key: int
    is_own_only: bool = False
    requests: Optional[FrozenSet[str]] = None

    def includes(self, entry: Entry) -> bool:
        """Return whether an entry between position and end belongs to it."""
        if self.requests is not None:
            return entry.message.parent_id in self.requests
        return entry.to == self.key or (entry.to == ALL_SESSIONS and not self.is_own_only)

    def loss_before(self, to: Position, lost_parent: bytes, sent: Position) -> Optional[Loss]:
        """Return the output that was dropped between two positions, if it belonged to the range."""
        lost = to.outputs - sent.outputs
        if lost <= 0 or self.is_own_only:
            return None
        if self.requests is not None:
            parent = Message(b"", [EMPTY, lost_parent]).parent_id
            if parent not in self.requests:
                return None
        return Loss(lost, to.output_bytes - sent.output_bytes, lost_parent or EMPTY)


Ranges = Tuple[Range, ...]


class Cursor:
    """The position of a client session in the log."""

    __slots__ = (
        "_acknowledged",
        "_log",
        "_make_notice",
        "_ping_number",
        "_pings",
        "begin",
        "key",
        "owed",
        "uncovered_bytes",
    )

    def __init__(self, log: MessageLog, key: int, make_notice: Callable[[Loss], Message]) -> None:
        """Begin at the end of the log.

        Args:
            log: the log.
            key: addressee of the entries that only this client is sent.
            make_notice: makes the message that tells of a loss.
        """
        self._log = log
        self._make_notice = make_notice
        self.key = key
        self.begin = log.position
        """Where it began."""
        self.owed: Ranges = (Range(log.position, None, key),)
        """What it is still to be sent."""
        self._acknowledged: Ranges = self.owed
        self._pings: List[Tuple[int, Ranges]] = []
        self._ping_number = 0
        self.uncovered_bytes = 0
        """Size of the messages sent since the last ping."""

    @property
    def is_ping_under_way(self) -> bool:
        """Whether a ping is not answered yet."""
        return bool(self._pings)

    @property
    def is_at_end(self) -> bool:
        """Whether everything was sent."""
        owed = self.owed
        return len(owed) == 1 and owed[0].position.number == self._log.position.number

    @property
    def is_flushed(self) -> bool:
        """Whether everything was sent and acknowledged."""
        return self.is_at_end and not self.uncovered_bytes and not self._pings

    @property
    def keys(self) -> Sequence[int]:
        """Keys of all client sessions whose entries it is owed."""
        return tuple({one.key for one in self._acknowledged})

    @property
    def oldest_owed(self) -> int:
        """Number of the oldest entry that it may not have acknowledged."""
        return self._acknowledged[0].position.number

    def is_owed(self, number: int) -> bool:
        """Return whether an entry that belongs to this client may not be acknowledged yet."""
        return number >= self.oldest_owed

    @property
    def is_lagging(self) -> bool:
        """Whether large output that waits to be sent would fill half of the log's memory."""
        sent, appended = self.owed[-1].position, self._log.position
        size = appended.output_bytes - sent.output_bytes
        return (
            size > self._log.max_memory_bytes // 2
            and size > (appended.outputs - sent.outputs) * LARGE_BYTES
        )

    @property
    def has_room(self) -> bool:
        """Whether waiting output would fill at most a quarter, which ends a lag."""
        waiting = self._log.position.output_bytes - self.owed[-1].position.output_bytes
        return waiting <= self._log.max_memory_bytes // 4

    def take(self, max_bytes: int) -> List[Message]:
        """Return the next messages to send, notices of losses among them, of about `max_bytes`.

        It reads no more than that of the log at a time; so there may be none although
        `is_at_end` is not true.
        """
        messages: List[Message] = []
        left = max_bytes
        while left > 0 and not self.is_at_end:
            left -= self._advance(left, messages)
        for message in messages:
            self.uncovered_bytes += message.size
        if not self.uncovered_bytes and not self._pings:
            self._acknowledged = self.owed
        return messages

    def unacknowledged(self) -> List[Message]:
        """Return the messages that were sent and not acknowledged, as far as the log has them.

        Only the oldest `UNDER_WAY_BYTES` of them: a client reads in order.
        """
        done = len(self._acknowledged) - len(self.owed)
        current = self._acknowledged[done]._replace(end=self.owed[0].position)
        messages: List[Message] = []
        left = UNDER_WAY_BYTES
        for one in (*self._acknowledged[:done], current):
            number, end = one.position.number, one.end.number if one.end is not None else 0
            while number < end and left > 0:
                entries = self._log.read(number, READ_BYTES)
                left -= sum(entry.message.size for entry in entries)
                number = entries[-1].number + 1 if entries else end
                messages += [
                    entry.message for entry in entries if entry.number < end and one.includes(entry)
                ]
        return messages

    def next_ping(self) -> int:
        """Return the number of a ping that covers everything sent so far."""
        self._ping_number += 1
        self._pings.append((self._ping_number, self.owed))
        if len(self._pings) > MAX_PINGS:
            del self._pings[0]
        self.uncovered_bytes = 0
        return self._ping_number

    def acknowledge(self, number: int) -> bool:
        """Record a pong; return False if no such ping is on its way."""
        for index, (ping, owed) in enumerate(self._pings):
            if ping == number:
                del self._pings[: index + 1]
                self._acknowledged = owed
                return True
        return False

    def rewind(self) -> None:
        """Owe again what was not acknowledged, after the connection was lost."""
        self.owed = self._acknowledged
        self._pings = []
        self.uncovered_bytes = 0

    def adopt(self, former: "Cursor") -> None:
        """Owe first what the client's former cursor, which has no connection, was still owed.

        What was for all sessions since this cursor began was sent here.
        """
        own = self._log.position
        adopted: List[Range] = []
        for one in former.owed:
            if one.end is not None and one.end.number <= self.begin.number:
                adopted.append(one)
                continue
            if one.position.number < self.begin.number:
                adopted.append(one._replace(end=self.begin))
            if one.requests is None:
                start, end = max(one.position, self.begin), one.end or own
                if start.number < end.number:
                    adopted.append(Range(start, end, one.key, is_own_only=True))
        self._prepend(adopted)

    def replay(self, requests: FrozenSet[str], first: Position, last: Optional[int]) -> None:
        """Owe first all messages of requests, up to what is owed anyway.

        Args:
            requests: ids of the requests.
            first: where the first of their messages is.
            last: number of the last one; None if more may come.
        """
        end = self.owed[0].position
        if last is not None and last + 1 < end.number:
            end = Position(last + 1, 0, 0)  # no loss is told at this end
        if first.number < end.number:
            self._prepend([Range(first, end, self.key, requests=requests)])

    def _prepend(self, ranges: List[Range]) -> None:
        def before(owed: Ranges) -> Ranges:
            return (*ranges, *owed)[-MAX_RANGES:]

        self.owed = before(self.owed)
        self._acknowledged = before(self._acknowledged)
        self._pings = [(number, before(owed)) for number, owed in self._pings]

    def _advance(self, max_bytes: int, messages: List[Message]) -> int:
        """Collect messages of the first range; return the size of what was read, at least 1."""
        current = self.owed[0]
        position, end = current.position, current.end
        limit = self._log.position.number if end is None else end.number
        read = 1
        for entry in self._log.read(position.number, max_bytes):
            if entry.number >= limit:
                self._finish(current, position, entry.lost_parent, messages)
                return read
            if entry.outputs > position.outputs:
                self._tell_loss(current, position, entry.position, entry.lost_parent, messages)
            if current.includes(entry):
                messages.append(entry.message)
            read += entry.message.size
            position = entry.next_position
        if end is not None and position.number >= limit:
            self._finish(current, position, b"", messages)
        else:
            self.owed = (Range(position, *current[1:]), *self.owed[1:])
        return read

    def _finish(
        self, current: Range, position: Position, lost_parent: bytes, messages: List[Message]
    ) -> None:
        if current.end is not None:
            self._tell_loss(current, position, current.end, lost_parent, messages)
        self.owed = self.owed[1:]

    def _tell_loss(
        self,
        current: Range,
        sent: Position,
        to: Position,
        lost_parent: bytes,
        messages: List[Message],
    ) -> None:
        loss = current.loss_before(to, lost_parent, sent)
        if loss is not None:
            messages.append(self._make_notice(loss))
