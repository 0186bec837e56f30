"""Kernel messages, and the two WebSocket codecs.

Formats: jupyter_client's messaging page, and jupyter_server's page on the WebSocket protocols.
"""

import itertools
import json
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

DELIMITER = b"<IDS|MSG>"
"""Separates the addresses of a ZMQ message from its signature."""

V1_SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"


class Codec(StrEnum):
    """The framing of messages on a WebSocket."""

    V1 = "v1"
    LEGACY = "legacy"


@dataclass(frozen=True)
class Message:
    """One Jupyter message, as it was on the wire."""

    channel: str
    header: dict[str, Any]
    parent_header: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)
    buffers: tuple[bytes, ...] = ()

    @property
    def id(self) -> str:
        """The sender's id of the message."""
        return str(self.header["msg_id"])

    @property
    def type(self) -> str:
        """The message type."""
        return str(self.header["msg_type"])

    @property
    def parent_id(self) -> str:
        """The id of the request that it belongs to, "" if there is none."""
        return str(self.parent_header.get("msg_id", ""))


def make_header(msg_type: str, session: str, username: str) -> dict[str, Any]:
    """Return the header of a new message."""
    return {
        "msg_id": uuid.uuid4().hex,
        "msg_type": msg_type,
        "session": session,
        "username": username,
        "date": datetime.now(UTC).isoformat(),
        "version": "5.4",
    }


def execute_content(
    code: str, *, store_history: bool = True, allow_stdin: bool = False
) -> dict[str, Any]:
    """Return the content of an execute_request."""
    return {
        "code": code,
        "silent": False,
        "store_history": store_history,
        "user_expressions": {},
        "allow_stdin": allow_stdin,
        "stop_on_error": True,
    }


def join_v1(parts: Sequence[bytes]) -> bytes:
    """Frame the encoded parts of a message: little-endian 64-bit offsets, then the parts.

    Args:
        parts: channel, header, parent header, metadata, content and buffers.
    """
    count = len(parts) + 1
    offsets = [8 * (count + 1)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join([struct.pack(f"<{count + 1}Q", count, *offsets), *parts])


def encode_v1(message: Message) -> bytes:
    """Frame a message for `V1_SUBPROTOCOL`."""
    documents = (message.header, message.parent_header, message.metadata, message.content)
    encoded = [json.dumps(document).encode() for document in documents]
    return join_v1([message.channel.encode(), *encoded, *message.buffers])


def decode_v1(data: bytes) -> Message:
    """Read what `encode_v1` makes.

    Raises:
        ValueError: the offsets do not fit.
    """
    (count,) = struct.unpack_from("<Q", data)
    offsets = struct.unpack_from(f"<{count}Q", data, 8)
    if offsets[-1] != len(data):
        raise ValueError(f"{len(data)} bytes, but the last offset is {offsets[-1]}")
    parts = [data[start:end] for start, end in itertools.pairwise(offsets)]
    header, parent, metadata, content = (json.loads(part) for part in parts[1:5])
    return Message(parts[0].decode(), header, parent, metadata, content, tuple(parts[5:]))


def encode_legacy(message: Message) -> str | bytes:
    """Frame a message as JSON text; with buffers, as big-endian 32-bit offsets, JSON, buffers."""
    document = {
        "header": message.header,
        "parent_header": message.parent_header,
        "metadata": message.metadata,
        "content": message.content,
        "channel": message.channel,
    }
    if not message.buffers:
        return json.dumps({**document, "buffers": []})
    parts = [json.dumps(document).encode(), *message.buffers]
    offsets = [4 * (len(parts) + 1)]
    for part in parts[:-1]:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"!{len(parts) + 1}I", len(parts), *offsets) + b"".join(parts)


def decode_legacy(data: str | bytes) -> Message:
    """Read what `encode_legacy` makes."""
    buffers: tuple[bytes, ...] = ()
    if isinstance(data, bytes):
        (count,) = struct.unpack_from("!I", data)
        offsets = [*struct.unpack_from(f"!{count}I", data, 4), len(data)]
        parts = [data[start:end] for start, end in itertools.pairwise(offsets)]
        data, buffers = parts[0].decode(), tuple(parts[1:])
    document = json.loads(data)
    return Message(
        document["channel"],
        document["header"],
        document["parent_header"],
        document["metadata"],
        document["content"],
        buffers,
    )


def encode(message: Message, codec: Codec) -> str | bytes:
    """Frame a message."""
    return encode_v1(message) if codec is Codec.V1 else encode_legacy(message)
