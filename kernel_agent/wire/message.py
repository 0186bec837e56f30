"""A Jupyter message as raw JSON parts, decoded only where a decision needs it. Pure.

https://jupyter-client.readthedocs.io/en/stable/messaging.html
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

SHELL = b"shell"
CONTROL = b"control"
STDIN = b"stdin"
IOPUB = b"iopub"

DELIMITER = b"<IDS|MSG>"
EMPTY = b"{}"
OVERHEAD_BYTES = 704
"""Approximate memory of a message besides its payload."""

# Header values cannot be mistaken for keys: inside a JSON string every quote has a backslash before
# it, and these patterns need a bare quote, the name, a bare quote and a colon.
_STRING = rb'\s*:\s*("(?:[^"\\]|\\.)*")'
_MSG_TYPE = re.compile(rb'"msg_type"' + _STRING)
_MSG_ID = re.compile(rb'"msg_id"' + _STRING)
_SESSION = re.compile(rb'"session"' + _STRING)


class Message:
    """A message on one channel.

    Attributes:
        channel: `SHELL`, `CONTROL`, `STDIN` or `IOPUB`.
        parts: header, parent header, metadata, content, then buffers, as they were on the wire.
        size: bytes that it counts in the log.
        is_status: whether it is a `status`.
        wire: cache of encoded forms by codec while several clients are sent the message; else None.
    """

    __slots__ = ("channel", "is_status", "parts", "size", "wire")

    def __init__(self, channel: bytes, parts: Sequence[bytes]) -> None:
        self.channel = channel
        self.parts = parts
        self.size = sum(map(len, parts)) + OVERHEAD_BYTES
        self.wire: Optional[Dict[Any, Any]] = None
        # of other messages most are told without reading the type
        self.is_status = b'"status"' in parts[0] and self.msg_type == "status"

    @property
    def msg_type(self) -> str:
        """The header's `msg_type`, "" if there is none."""
        return _text(_MSG_TYPE, self.parts[0])

    @property
    def msg_id(self) -> str:
        """The header's `msg_id`."""
        return _text(_MSG_ID, self.parts[0])

    @property
    def session(self) -> str:
        """The header's `session`."""
        return _text(_SESSION, self.parts[0])

    @property
    def parent_session(self) -> str:
        """The parent header's `session`."""
        return _text(_SESSION, self.parts[1])

    @property
    def parent_id(self) -> str:
        """The parent header's `msg_id`."""
        return _text(_MSG_ID, self.parts[1])

    @property
    def buffers(self) -> Sequence[bytes]:
        """The binary buffers."""
        return self.parts[4:]

    def raw_id_and_type(self) -> Tuple[bytes, bytes]:
        """Return `msg_id` and `msg_type` as JSON strings, quotes included."""
        header = self.parts[0]
        msg_id = _MSG_ID.search(header)
        msg_type = _MSG_TYPE.search(header)
        return (msg_id[1] if msg_id else b'""', msg_type[1] if msg_type else b'""')

    def content(self) -> Dict[str, Any]:
        """Decode the content; {} if it is not a JSON object."""
        return decode_object(self.parts[3]) or {}


def decode_object(data: bytes) -> Optional[Dict[str, Any]]:
    """Decode a JSON object; None if the bytes are anything else."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def encode_json(document: Any) -> bytes:  # noqa: ANN401  # any JSON
    """Encode as compact ASCII JSON."""
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def as_utf8(part: bytes) -> bytes:
    """Return a part with what is not UTF-8 replaced; clients do not accept it."""
    try:
        part.decode()
    except UnicodeDecodeError:
        return part.decode(errors="replace").encode()
    return part


def split_frames(frames: List[bytes]) -> Optional[List[bytes]]:
    """Return the parts of a ZMQ multipart message, without identities, delimiter and signature.

    None if it is not a Jupyter message. There may be no frame at all before the delimiter: the
    topic list of `iopub_welcome` is empty.
    """
    try:
        start = frames.index(DELIMITER) + 2
    except ValueError:
        return None
    parts = frames[start:]
    return parts if len(parts) >= 4 else None


def make_header(msg_type: str, session: str, msg_id: str, date: str) -> Dict[str, str]:
    """Make a header of protocol version 5.3; `date` is ISO 8601."""
    return {
        "msg_id": msg_id,
        "msg_type": msg_type,
        "username": "agent",
        "session": session,
        "date": date,
        "version": "5.3",
    }


def make_message(
    channel: bytes,
    header: Mapping[str, str],
    content: Mapping[str, Any],
    parent_header: bytes = EMPTY,
) -> Message:
    """Make a message from decoded header and content."""
    return Message(channel, [encode_json(header), parent_header, EMPTY, encode_json(content)])


def _text(pattern: "re.Pattern[bytes]", header: bytes) -> str:
    found = pattern.search(header)
    if found is None:
        return ""
    try:
        return str(json.loads(found[1]))
    except ValueError:
        return ""
