"""Logs of a kernel, and messages to fill them, for unit tests."""

from collections.abc import Sequence

from kernel_agent.wire.message import IOPUB, Message
from kernel_agent.wire.message_log import Limits, MessageLog


class MemorySpill:
    """A spill that can be broken."""

    def __init__(self) -> None:
        self.stored: dict[int, bytes] = {}
        self.written = 0
        self.takes_writes = True
        self.can_be_read = True

    def write(self, pieces: Sequence[bytes]) -> int | None:
        """Keep them under the next number."""
        if not self.takes_writes:
            return None
        self.written += 1
        self.stored[self.written] = b"".join(pieces)
        return self.written

    def read(self, location: int) -> bytes | None:
        """Return what was written."""
        return self.stored[location] if self.can_be_read else None

    def free(self, location: int) -> None:
        """Forget it."""
        del self.stored[location]


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def message(
    kind: str, payload: int = 0, channel: bytes = IOPUB, parent: str = "", buffers: int = 0
) -> Message:
    """Make a message of a type with so many bytes of content."""
    header = b'{"msg_type":"%s"}' % kind.encode()
    parent_header = b'{"msg_id":"%s"}' % parent.encode() if parent else b"{}"
    return Message(channel, [header, parent_header, b"{}", b"x" * payload, *[b"b"] * buffers])


def shrunk(original: Message) -> Message:
    """Return a small message in place of a large reply."""
    return Message(original.channel, [*original.parts[:3], b"too large"])


def make_log(memory: int, spill: int = 0, max_age: float = 60.0) -> MessageLog:
    """Make a log with a spill in memory."""
    limits = Limits(memory, spill, max_age)
    return MessageLog(limits, Clock(), shrink=shrunk, spill=MemorySpill())
