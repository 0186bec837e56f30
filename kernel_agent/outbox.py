"""What one client session has not yet acknowledged.

Messages pass through three stages: waiting, sent, and covered by a ping that is on its way. At most
one such ping is under way; the pong with its number acknowledges everything that was sent before it
(RFC 6455 section 5.5.3). After a lost connection everything not acknowledged waits again, in order.
What was dropped passes through the same stages: the notice of it, and what was under way.
"""

from __future__ import annotations

from collections import deque
from typing import Callable, Deque, Dict, List, NamedTuple, Optional, Sequence

from kernel_agent.message import EMPTY, Message

FIRST_TO_GO = frozenset({"stream", "display_data", "update_display_data"})
"""Output that is dropped first when an outbox is full."""
NEVER_DROPPED = frozenset({"status", "input_request"})
"""Besides these, no message of shell, control and stdin is ever dropped. A `status` that nobody
waits for any more is another matter."""
SWEEP_TARGET = 0.875
"""A sweep frees an eighth of the outbox, so that a flood does not cause one a message."""


LARGE_BYTES = 16 * 1024
"""Average size of waiting messages from which on a client may slow the kernel down."""


class Loss(NamedTuple):
    """What a client will never see."""

    messages: int
    payload_bytes: int
    parent_header: bytes
    """Of the last message dropped: where the client can show the notice."""


class Outbox:
    """A bounded queue with acknowledgement. Sizes count as in `Message.size`."""

    def __init__(self, max_bytes: int, is_own: Callable[[Message], bool]) -> None:
        """Make an empty one.

        Args:
            max_bytes: what it holds before something is dropped.
            is_own: whether a `status` is about the client's own requests, or about nobody's.
        """
        self._max_bytes = max_bytes
        self._is_own = is_own
        self._waiting: Deque[Message] = deque()
        self._sent: List[Message] = []
        self._covered: List[Message] = []
        self._ping_number = 0
        self._is_ping_under_way = False
        self._lost: Optional[Loss] = None
        self._lost_sent: Optional[Loss] = None
        self._lost_covered: Optional[Loss] = None
        self._waiting_size = 0
        self._sent_size = 0
        self._sweep_above = max_bytes
        self.size = 0
        """Bytes of all messages not acknowledged."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent) + len(self._covered)

    @property
    def is_lagging(self) -> bool:
        """Whether half of the outbox is large messages that wait to be sent."""
        waiting = self._waiting_size
        return waiting > self._max_bytes // 2 and waiting > LARGE_BYTES * len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether three quarters are free of messages that wait: the end of a lag."""
        return self._waiting_size <= self._max_bytes // 4

    @property
    def unasked_bytes(self) -> int:
        """Size of what the next ping would cover; 0 while another one is under way."""
        return 0 if self._is_ping_under_way else self._sent_size

    def extend(self, messages: Sequence[Message], size: int) -> None:
        """Append messages of `size` bytes together; what is too much is dropped, oldest first."""
        self._waiting.extend(messages)
        self.size += size
        self._waiting_size += size
        if self.size > self._sweep_above:
            self._sweep()

    def take(self, max_bytes: int) -> Sequence[Message]:
        """Return the next messages to send, about `max_bytes` of them, at least one if any."""
        waiting = self._waiting
        batch: List[Message] = []
        taken = 0
        while waiting and taken < max_bytes:
            message = waiting.popleft()
            batch.append(message)
            taken += message.size
        self._sent += batch
        self._sent_size += taken
        self._waiting_size -= taken
        return batch

    def take_loss(self) -> Optional[Loss]:
        """Return once what was dropped since the last call: to be told before the next message."""
        lost, self._lost = self._lost, None
        self._lost_sent = _add_loss(self._lost_sent, lost)
        return lost

    def next_ping(self) -> int:
        """Return the number of the ping that is sent now; only if `unasked_bytes` is not 0."""
        self._covered, self._sent = self._sent, []
        self._sent_size = 0
        self._lost_covered, self._lost_sent = self._lost_sent, None
        self._is_ping_under_way = True
        self._ping_number += 1
        return self._ping_number

    def acknowledge(self, number: int) -> bool:
        """Forget what the ping with this number covered; False if no such ping is under way."""
        if not self._is_ping_under_way or number != self._ping_number:
            return False
        self.size -= sum(message.size for message in self._covered)
        self._covered = []
        self._lost_covered = None
        self._is_ping_under_way = False
        return True

    def rewind(self) -> None:
        """Let everything not acknowledged wait again: its connection is gone."""
        self._waiting.extendleft(reversed(self._sent))
        self._waiting.extendleft(reversed(self._covered))
        self._sent = []
        self._sent_size = 0
        self._covered = []
        self._waiting_size = self.size
        self._is_ping_under_way = False
        self._lost = _add_loss(_add_loss(self._lost_covered, self._lost_sent), self._lost)
        self._lost_sent = None
        self._lost_covered = None

    def _sweep(self) -> None:
        """Drop what may go, and put the next sweep off until it is worth its cost."""
        self._drop_oldest()
        self._sweep_above = max(self._max_bytes, int(self.size / SWEEP_TARGET))

    def _drop_oldest(self) -> None:
        everything = [*self._covered, *self._sent, *self._waiting]
        types = {id(message): message.msg_type for message in everything}
        # The newest status about others tells the state that the kernel is in.
        status = [message for message in everything if types[id(message)] == "status"]
        foreign = [message for message in status if not self._is_own(message)]
        doomed = {id(message): message for message in foreign[:-1]}
        target = int(self._max_bytes * SWEEP_TARGET)
        excess = self.size - target - sum(message.size for message in foreign[:-1])
        lost: Dict[int, Message] = {}
        for is_first_to_go in (True, False):
            for message in everything:
                if excess <= 0:
                    break
                msg_type = types[id(message)]
                may_go = message.channel == b"iopub" and msg_type not in NEVER_DROPPED
                if may_go and (msg_type in FIRST_TO_GO) is is_first_to_go:
                    lost[id(message)] = message
                    excess -= message.size
        doomed.update(lost)
        if not doomed:
            return
        self._lost = _add_loss(self._lost, _loss_of(lost, self._waiting))
        self._lost_sent = _add_loss(self._lost_sent, _loss_of(lost, self._sent))
        self._lost_covered = _add_loss(self._lost_covered, _loss_of(lost, self._covered))
        self._covered = [message for message in self._covered if id(message) not in doomed]
        self._sent = [message for message in self._sent if id(message) not in doomed]
        self._sent_size = sum(message.size for message in self._sent)
        self._waiting = deque(message for message in self._waiting if id(message) not in doomed)
        self.size -= sum(message.size for message in doomed.values())
        self._waiting_size = sum(message.size for message in self._waiting)


def _loss_of(lost: Dict[int, Message], stage: "List[Message] | Deque[Message]") -> Optional[Loss]:
    here = [message for message in stage if id(message) in lost]
    if not here:
        return None
    payload_bytes = sum(sum(map(len, message.parts)) for message in here)
    return Loss(len(here), payload_bytes, here[-1].parts[1])


def _add_loss(first: Optional[Loss], second: Optional[Loss]) -> Optional[Loss]:
    if first is None or second is None:
        return first or second
    parent = second.parent_header if second.parent_header != EMPTY else first.parent_header
    return Loss(
        first.messages + second.messages, first.payload_bytes + second.payload_bytes, parent
    )
