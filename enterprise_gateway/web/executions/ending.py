"""The end of a stream whose agent has gone with its kernel. Pure."""

import json

EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"
STREAM_TYPES = frozenset({NDJSON, EVENT_STREAM})


class Ending:
    """Knows whether a stream is between two records, and makes a last one."""

    def __init__(self, content_type: str) -> None:
        self._is_events = content_type == EVENT_STREAM
        self._mark = b"\n\n" if self._is_events else b"\n"
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Take note of bytes that the client was sent."""
        self._tail = (self._tail + data[-2:])[-2:]

    @property
    def is_between_records(self) -> bool:
        """Whether what the client was sent ends with a record."""
        return self._tail.endswith(self._mark)

    def record(self, message: str) -> bytes:
        """Return a record that says why nothing more will come."""
        line = json.dumps({"event": "dead", "message": message})
        return (f"event: dead\ndata: {line}\n\n" if self._is_events else f"{line}\n").encode()
