"""The records of an execution's stream: lines of JSON, or server-sent events. Pure.

Each record is a JSON object on one line: no reader takes a character in it for the end of a line,
also those that split text as `str.splitlines` does.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from kernel_agent.wire.message import Message, as_utf8, encode_json

NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"

_LINE_ENDS_IN_SPACE = (b"\n", b"\r")
_LINE_ENDS_IN_TEXT = (
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


def choose_type(accept: str) -> Optional[str]:
    """Return the content type of a stream for an `Accept` header; None if it admits neither.

    Lines of JSON if both are admitted alike (RFC 9110 section 12.5.1).
    """
    if not accept.strip():
        return NDJSON
    weights = {kind: _weight(accept, kind) for kind in (NDJSON, EVENT_STREAM)}
    best = max(weights, key=lambda kind: weights[kind])
    return best if weights[best] > 0 else None


class RecordEncoder:
    """Encodes the records of one stream."""

    def __init__(self, content_type: str) -> None:
        self._is_events = content_type == EVENT_STREAM

    def encode(self, number: int, event: str, document: Mapping[str, Any]) -> bytes:
        """Return a record of the agent's own."""
        line = encode_json({"n": number, "event": event, **document})
        return b"".join(self._frame(number, event, [line]))

    def encode_message(self, number: int, message: Message) -> Sequence[bytes]:
        """Return the pieces of a record with a kernel's message."""
        msg_id, msg_type = message.raw_id_and_type()
        header, parent, metadata, content = map(_on_one_line, message.parts[:4])
        buffers = b",".join(
            b'"%b"' % b2a_base64(buffer, newline=False) for buffer in message.buffers
        )
        pieces = [
            b'{"n":%d,"event":"message","channel":"%b","msg_id":%b,"msg_type":%b,"header":'
            % (number, message.channel, _on_one_line(msg_id), _on_one_line(msg_type)),
            *(header, b',"parent_header":', parent, b',"metadata":', metadata),
            *(b',"content":', content, b',"buffers":[', buffers, b"]}"),
        ]
        return self._frame(number, "message", pieces)

    def keep_alive(self, number: int) -> bytes:
        """Return what shows, while the kernel is silent, that the stream is alive."""
        return b": waiting\n\n" if self._is_events else self.encode(number, "waiting", {})

    def _frame(self, number: int, event: str, pieces: List[bytes]) -> Sequence[bytes]:
        if not self._is_events:
            return (*pieces, b"\n")
        return (b"id: %d\nevent: %b\ndata: " % (number, event.encode()), *pieces, b"\n\n")


def _weight(accept: str, kind: str) -> float:
    """Return the quality of a media type by the most specific range of `Accept`."""
    best: Tuple[int, float] = (0, 0.0)
    ranges = {kind: 3, kind.split("/", maxsplit=1)[0] + "/*": 2, "*/*": 1}
    for element in accept.lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        if ranges.get(name, 0) > best[0]:
            best = (ranges[name], _quality(parameters))
    return best[1]


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def _on_one_line(part: bytes) -> bytes:
    """Return a part of a message, which is JSON, without line ends.

    JSON has line feeds only as white space between tokens, the other line ends only in strings.
    """
    if not part.isascii():
        part = as_utf8(part)
        for end, escape in _LINE_ENDS_IN_TEXT:
            part = part.replace(end, escape)
    for end in _LINE_ENDS_IN_SPACE:
        part = part.replace(end, b" ")
    return part
