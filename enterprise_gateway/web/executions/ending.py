"""The end of a stream whose agent has gone with its kernel. Pure."""

import json

import msgspec

from enterprise_gateway.errors import UNREADABLE_JSON
from enterprise_gateway.services.kernels.agents.state import OpenRequest
from enterprise_gateway.web.dead_kernels import DeadKernelAnswers

EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"
STREAM_TYPES = frozenset({NDJSON, EVENT_STREAM})

_MAX_FIRST_BYTES = 16 * 1024


class Ending:
    """Knows whether a stream is between two records, and makes the last ones."""

    def __init__(self, content_type: str) -> None:
        self._is_events = content_type == EVENT_STREAM
        self._mark = b"\n\n" if self._is_events else b"\n"
        self._first = b""
        """The first record, which names the execution, or its beginning."""
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Take note of bytes that the client was sent."""
        if self._mark not in self._first and len(self._first) < _MAX_FIRST_BYTES:
            self._first += data[:_MAX_FIRST_BYTES]
        self._tail = (self._tail + data[-2:])[-2:]

    @property
    def is_between_records(self) -> bool:
        """Whether what the client was sent ends with a record."""
        return self._tail.endswith(self._mark)

    def records(self, explanation: str) -> bytes:
        """Return an error and a reply, as an agent that is there ends the stream of a dead kernel.

        Args:
            explanation: why there is no kernel.
        """
        request = OpenRequest("shell", self._request_header())
        return b"".join(
            self._record({"event": "message", **message})
            for message in DeadKernelAnswers(explanation).fail(request)
            if message["msg_type"] != "status"
        )

    def _request_header(self) -> dict[str, object]:
        line = self._first.split(self._mark)[0].rpartition(b"data: ")[2]
        try:
            execution = msgspec.json.decode(line, type=_Execution)
        except UNREADABLE_JSON:
            execution = _Execution()
        return {"msg_type": "execute_request", **msgspec.structs.asdict(execution)}

    def _record(self, record: dict[str, object]) -> bytes:
        line = json.dumps(record)
        return (f"event: message\ndata: {line}\n\n" if self._is_events else f"{line}\n").encode()


class _Execution(msgspec.Struct):
    """What the first record says of the request."""

    msg_id: str = ""
    session: str = ""
