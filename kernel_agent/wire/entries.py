"""What stands in the kernel's log: messages with a number, and places between them. Pure."""

from __future__ import annotations

from typing import NamedTuple

from kernel_agent.wire.message import IOPUB, OVERHEAD_BYTES, Message

ALL_SESSIONS = 0
"""Addressee of an entry that all client sessions are sent."""
NO_SESSION = -1
"""Addressee of an entry that no client session is sent unless it asks for its request."""

DROPPED_FIRST = frozenset({"stream", "display_data", "update_display_data"})
"""Message types that are dropped first when the log is full."""


class Position(NamedTuple):
    """A place in the log, before the entry with that number.

    Attributes:
        number: that of the next entry.
        outputs: how many messages of output stood before it, whether they are still there or not.
        output_bytes: their size.
    """

    number: int
    outputs: int
    output_bytes: int


class Entry(NamedTuple):
    """A message in the log. `number`, `outputs` and `output_bytes` are those of its `Position`.

    Attributes:
        message: the message.
        to: `ALL_SESSIONS`, `NO_SESSION`, or the key of a client session.
        output_size: size of the message if it is output, else 0.
        lost_parent: parent header of the last output dropped between the entry before and this one;
            empty if there is none.
    """

    number: int
    message: Message
    to: int
    outputs: int
    output_bytes: int
    output_size: int
    lost_parent: bytes = b""

    @property
    def position(self) -> Position:
        """The place before it."""
        return Position(self.number, self.outputs, self.output_bytes)

    @property
    def next_position(self) -> Position:
        """The place behind it."""
        outputs = self.outputs + (self.output_size > 0)
        return Position(self.number + 1, outputs, self.output_bytes + self.output_size)


class Loss(NamedTuple):
    """Output that the log dropped before a client was sent it."""

    messages: int
    payload_bytes: int
    parent_header: bytes
    """Parent header of the last dropped message: the client shows the notice under its cell."""


def output_size(message: Message, to: int) -> int:
    """Return the size of a message that may be dropped, with a notice, when the log is full.

    That is any iopub message but a `status`; 0 for other messages.
    """
    if to != ALL_SESSIONS or message.channel != IOPUB:
        return 0
    if message.is_status:
        return 0
    return message.size - OVERHEAD_BYTES
