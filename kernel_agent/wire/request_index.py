"""Where in the log the messages of a request are. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, Optional

from kernel_agent.wire.entries import Position
from kernel_agent.wire.message import Message

MAX_REQUESTS = 4096
"""Requests remembered; the one without messages for the longest time goes first."""
MAX_ID_CHARS = 1024
"""Requests with longer ids are not found."""


class Span(NamedTuple):
    """The part of the log in which all messages of a request are."""

    first: Position
    last: int
    """Number of its last entry."""


class _Request:
    __slots__ = ("first", "last")

    def __init__(self, first: Position) -> None:
        self.first = first
        self.last = first.number


class RequestIndex:
    """First and last entry of each request, by the `msg_id` in parent headers."""

    def __init__(self) -> None:
        self._requests: "OrderedDict[str, _Request]" = OrderedDict()
        self._parent_header = b""
        self._latest: Optional[_Request] = None

    def record(self, message: Message, position: Position) -> None:
        """Record an entry that was appended at `position`."""
        parent_header = message.parts[1]
        if parent_header != self._parent_header:
            self._parent_header = parent_header
            self._latest = self._find_or_add(message.parent_id, position)
        if self._latest is not None:
            self._latest.last = position.number

    def find(self, msg_id: str) -> Optional[Span]:
        """Return where the messages of a request are; None if it has none, or is forgotten."""
        request = self._requests.get(msg_id)
        return Span(request.first, request.last) if request is not None else None

    def _find_or_add(self, msg_id: str, position: Position) -> Optional[_Request]:
        if not msg_id or len(msg_id) > MAX_ID_CHARS:
            return None
        request = self._requests.get(msg_id)
        if request is None:
            request = self._requests[msg_id] = _Request(position)
            if len(self._requests) > MAX_REQUESTS:
                self._requests.popitem(last=False)
        else:
            self._requests.move_to_end(msg_id)
        return request
