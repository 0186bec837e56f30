"""The WebSocket forms of a Jupyter message: v1, legacy, and legacy as text alone. Pure.

jupyter_server's documentation describes v1 and legacy ("WebSocket kernel wire protocols"). Text
alone is for peers that cannot read binary frames. The JSON parts are spliced, not decoded, on their
way to a client.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from kernel_agent.wire.frames import BINARY, TEXT, frame_header
from kernel_agent.wire.message import (
    CONTROL,
    SHELL,
    STDIN,
    Message,
    as_utf8,
    decode_object,
    encode_json,
)

V1_SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"
JOIN_MAX_BYTES = 64 * 1024
"""Messages up to this size are joined; larger ones stay in pieces, which saves a copy."""

_CLIENT_CHANNELS = {b"shell": SHELL, b"control": CONTROL, b"stdin": STDIN}
_PLAIN_V1_TABLE = struct.Struct("<7Q").pack


class Codec(Enum):
    """How messages travel on one WebSocket."""

    V1 = "v1"
    LEGACY = "legacy"
    TEXT_ONLY = "text only"
    """Legacy without buffers: for gateway clients that lose the connection at a binary frame."""


class DecodeError(ValueError):
    """A client's message is malformed; the caller drops it and keeps the connection."""


class Request(NamedTuple):
    """A message from a client."""

    channel: bytes
    header: Dict[str, Any]
    parts: List[bytes]
    """Header, parent header, metadata, content, then buffers, as in `Message`."""


def encode(message: Message, codec: Codec) -> Sequence[bytes]:
    """Return the pieces of the frame that carries the message; use and fill the cache `wire`."""
    wire = message.wire
    pieces: Optional[Sequence[bytes]] = None if wire is None else wire.get(codec)
    if pieces is None:
        if codec is Codec.V1:
            pieces = _encode_v1(message)
        elif codec is Codec.LEGACY and message.buffers:
            pieces = _encode_binary(message)
        else:
            pieces = _encode_text(message)
        if message.size <= JOIN_MAX_BYTES:
            pieces = (b"".join(pieces),)
        if wire is not None:
            wire[codec] = pieces
    return pieces


def _encode_v1(message: Message) -> Sequence[bytes]:
    parts = message.parts
    channel = message.channel
    count = len(parts)
    if count == 4:
        end_channel = 56 + len(channel)
        end_header = end_channel + len(parts[0])
        end_parent = end_header + len(parts[1])
        end_metadata = end_parent + len(parts[2])
        end = end_metadata + len(parts[3])
        table = _PLAIN_V1_TABLE(6, 56, end_channel, end_header, end_parent, end_metadata, end)
    else:
        end = 8 * (count + 3)
        offsets = [end]
        for part in (channel, *parts):
            end += len(part)
            offsets.append(end)
        table = struct.pack(f"<{count + 3}Q", count + 2, *offsets)
    return (frame_header(BINARY, end), table, channel, *parts)


def _legacy_json(message: Message, buffers: bytes) -> List[bytes]:
    header, parent, metadata, content = message.parts[:4]
    msg_id, msg_type = message.raw_id_and_type()
    pieces = [
        *(b'{"header":', header, b',"msg_id":', msg_id, b',"msg_type":', msg_type),
        *(b',"parent_header":', parent, b',"metadata":', metadata, b',"content":', content),
        *(buffers, b',"channel":"', message.channel, b'"}'),
    ]
    # A client closes the connection at a text frame that is not UTF-8.
    return [piece if piece.isascii() else as_utf8(piece) for piece in pieces]


def _encode_text(message: Message) -> Sequence[bytes]:
    pieces = _legacy_json(message, b',"buffers":[]')
    return (frame_header(TEXT, sum(map(len, pieces))), *pieces)


def _encode_binary(message: Message) -> Sequence[bytes]:
    document = b"".join(_legacy_json(message, b""))
    items = [document, *message.buffers]
    offset = 4 * (len(items) + 1)
    numbers = [len(items)]
    for item in items:
        numbers.append(offset)
        offset += len(item)
    table = struct.pack(f"!{len(numbers)}I", *numbers)
    return (frame_header(BINARY, offset), table, *items)


def decode(payload: bytes, codec: Codec) -> Request:
    """Read a client's message.

    The payload itself tells its form, since v1 clients may send either. A v1 message begins with a
    64-bit number whose upper half is zero; at that place JSON has no zero bytes, and the legacy
    binary form has its first offset, which is not zero. The legacy binary form begins with 0x00,
    the high byte of its 32-bit number of items.

    Raises:
        DecodeError: the message is malformed, or its channel takes no messages from clients.
    """
    if codec is Codec.V1 and payload[4:8] == b"\0\0\0\0":
        return _decode_v1(payload)
    if payload[:1] == b"\0":
        return _decode_legacy_binary(payload)
    return _decode_legacy(payload, [])


def _decode_v1(payload: bytes) -> Request:
    if len(payload) < 8:
        raise DecodeError("too short for a v1 message")
    (count,) = struct.unpack_from("<Q", payload)
    if count < 6 or 8 * (count + 1) > len(payload):
        raise DecodeError("v1 message with a wrong number of offsets")
    offsets = struct.unpack_from(f"<{count}Q", payload, 8)
    ordered = [8 * (count + 1), *offsets]
    if any(low > high for low, high in _pairs(ordered)) or offsets[-1] > len(payload):
        raise DecodeError("v1 message with wrong offsets")
    items = [payload[low:high] for low, high in _pairs(offsets)]
    return _request(items[0], decode_object(items[1]), items[1:])


def _decode_legacy_binary(payload: bytes) -> Request:
    if len(payload) < 8:
        raise DecodeError("too short for a legacy binary message")
    (count,) = struct.unpack_from("!I", payload)
    if count < 1 or 4 * (count + 1) > len(payload):
        raise DecodeError("legacy binary message with a wrong number of items")
    offsets = [*struct.unpack_from(f"!{count}I", payload, 4), len(payload)]
    if offsets[0] < 4 * (count + 1) or any(low > high for low, high in _pairs(offsets)):
        raise DecodeError("legacy binary message with wrong offsets")
    items = [payload[low:high] for low, high in _pairs(offsets)]
    return _decode_legacy(items[0], items[1:])


def _decode_legacy(text: bytes, buffers: List[bytes]) -> Request:
    document = decode_object(text)
    if document is None:
        raise DecodeError("not a JSON object")
    header = document.get("header")
    parts = [
        header,
        *(document.get(name) or {} for name in ("parent_header", "metadata", "content")),
    ]
    if not all(isinstance(part, dict) for part in parts):
        raise DecodeError("a part of the message is not a JSON object")
    channel = document.get("channel", "shell")
    return _request(
        str(channel).encode(errors="replace"), header, [*map(encode_json, parts), *buffers]
    )


def _request(channel: bytes, header: Optional[Dict[str, Any]], parts: List[bytes]) -> Request:
    if channel not in _CLIENT_CHANNELS:
        raise DecodeError("unknown channel")
    if header is None or not isinstance(header.get("msg_type"), str):
        raise DecodeError("header without a message type")
    return Request(_CLIENT_CHANNELS[channel], header, parts)


def _pairs(numbers: Sequence[int]) -> List[Any]:
    return [(numbers[index], numbers[index + 1]) for index in range(len(numbers) - 1)]
