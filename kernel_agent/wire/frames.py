"""WebSocket frames of a server (RFC 6455 section 5). Pure: bytes in, bytes out.

Text is checked to be UTF-8 with one exception: Jupyter servers that act as gateway clients send
legacy-binary messages, whose first byte is always 0x00, in text frames.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Iterator, List, NamedTuple, Optional, Tuple

_SHORT = struct.Struct("!BB").pack
_MEDIUM = struct.Struct("!BBH").pack
_LONG = struct.Struct("!BBQ").pack

_FINAL = 0x80
_RESERVED = 0x70
_OPCODE = 0x0F
_CONTINUATION = 0
_MASKED = 0x80
_MASK_BYTES = 4
_CONTROL_MAX_BYTES = 125
_SHORT_BYTES = 2048
"""Up to this size a payload is unmasked in the time that a translation table would take."""
_PIECE_BYTES = 32 * 1024
"""Longer payloads are unmasked in pieces of this size, which fit the processor's cache."""
_ALL_BYTES = bytes(range(256))

TEXT = _FINAL | 0x1
BINARY = _FINAL | 0x2
CLOSE = _FINAL | 0x8
PING = _FINAL | 0x9
PONG = _FINAL | 0xA
"""First bytes of frames that are complete messages."""

NO_STATUS = 1000
"""Close code that answers a close frame without a code."""
PROTOCOL_ERROR = 1002
INVALID_DATA = 1007
MESSAGE_TOO_BIG = 1009


class EventKind(Enum):
    """The kind of a message or control frame."""

    TEXT = "text"
    BINARY = "binary"
    PING = "ping"
    PONG = "pong"
    CLOSE = "close"


class Event(NamedTuple):
    """One complete message or control frame."""

    kind: EventKind
    payload: bytes


class FrameError(Exception):
    """The peer violated the protocol; the caller must close the connection with `code`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame_header(first_byte: int, length: int) -> bytes:
    """Return the header of an unmasked frame (section 5.2) whose payload has `length` bytes."""
    if length < 126:
        return _SHORT(first_byte, length)
    if length < 65536:
        return _MEDIUM(first_byte, 126, length)
    return _LONG(first_byte, 127, length)


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; the reason is cut to 100 bytes."""
    payload = struct.pack("!H", code) + reason.encode()[:100]
    return frame_header(CLOSE, len(payload)) + payload


class FrameReader:
    """Parses the bytes of one connection into events."""

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._unread: List[bytes] = []
        self._unread_bytes = 0
        self._needed_bytes = 0
        """How many unread bytes the next frame has at least."""
        self._kind: Optional[EventKind] = None
        self._chunks = bytearray()

    def receive(self, data: bytes) -> Iterator[Event]:
        """Yield the events that `data` completes.

        Text has been checked to be UTF-8 unless it begins with byte 0x00.

        Raises:
            FrameError: with code 1002, 1007 or 1009. The reader must not be used again.
        """
        self._unread.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes < self._needed_bytes:
            return
        data = b"".join(self._unread)
        position = 0
        while True:
            first, start, end = self._read_header(data, position)
            if not start or end > len(data):
                break
            event = self._read_payload(first, data[start - _MASK_BYTES : start], data[start:end])
            position = end
            if event is not None:
                yield event
        self._unread = [data[position:]]
        self._unread_bytes = len(data) - position
        self._needed_bytes = end - position

    def _read_header(self, data: bytes, position: int) -> Tuple[int, int, int]:
        """Return the first byte of a frame, and where its payload begins and ends.

        If the header is incomplete its payload begins at 0, and the end is the header's at least.
        """
        available = len(data) - position
        if available < 2:
            return 0, 0, position + 2
        first, length = data[position : position + 2]
        self._check_header(first, length)
        length &= ~_MASKED
        start = position + 2 + _MASK_BYTES + {126: 2, 127: 8}.get(length, 0)
        if len(data) < start:
            return first, 0, start
        if length > _CONTROL_MAX_BYTES:
            shortest = 126 if length == 126 else 65536
            length = int.from_bytes(data[position + 2 : start - _MASK_BYTES], "big")
            if length < shortest or length >= 1 << 63:
                raise FrameError(PROTOCOL_ERROR, "a length in a form that is not allowed for it")
        if not first & 0x8 and len(self._chunks) + length > self._max_message_bytes:
            raise FrameError(MESSAGE_TOO_BIG, "message too big")
        return first, start, start + length

    def _check_header(self, first: int, length: int) -> None:
        opcode = first & _OPCODE
        if first & _RESERVED or opcode not in (_CONTINUATION, 0x1, 0x2, 0x8, 0x9, 0xA):
            raise FrameError(PROTOCOL_ERROR, "reserved bits or an unknown opcode")
        if not length & _MASKED:
            raise FrameError(PROTOCOL_ERROR, "a client's frame is not masked")
        is_control = opcode & 0x8
        if is_control and (not first & _FINAL or length & ~_MASKED > _CONTROL_MAX_BYTES):
            raise FrameError(PROTOCOL_ERROR, "a control frame that is too long or not final")
        if not is_control and (opcode == _CONTINUATION) is (self._kind is None):
            raise FrameError(PROTOCOL_ERROR, "a continuation out of place")

    def _read_payload(self, first: int, mask: bytes, payload: bytes) -> Optional[Event]:
        payload = _unmask(payload, mask)
        if first & 0x8:
            return _control_event(first, payload)
        if self._kind is None:
            self._kind = EventKind.TEXT if first | _FINAL == TEXT else EventKind.BINARY
        if not first & _FINAL:
            self._chunks += payload
            return None
        if self._chunks:
            payload = bytes(self._chunks + payload)
            self._chunks = bytearray()
        kind, self._kind = self._kind, None
        if kind is EventKind.TEXT and payload[:1] != b"\0":
            _check_utf8(payload)
        return Event(kind, payload)


def _unmask(payload: bytes, mask: bytes) -> bytes:
    """Undo the masking (section 5.3): short payloads as one number, long ones byte by byte."""
    if len(payload) <= _SHORT_BYTES:
        return _xor(payload, mask)
    if len(payload) > _PIECE_BYTES:
        pieces = range(0, len(payload), _PIECE_BYTES)
        return b"".join([_unmask(payload[at : at + _PIECE_BYTES], mask) for at in pieces])
    unmasked = bytearray(len(payload))
    for index in range(_MASK_BYTES):
        table = _xor(_ALL_BYTES, mask[index : index + 1] * _MASK_BYTES)
        unmasked[index::_MASK_BYTES] = payload[index::_MASK_BYTES].translate(table)
    return bytes(unmasked)


def _xor(payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    key = int.from_bytes((mask * (length // _MASK_BYTES + 1))[:length], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")


def _check_utf8(message: bytes) -> None:
    if message.isascii():
        return
    try:
        message.decode()
    except UnicodeDecodeError as exc:
        raise FrameError(INVALID_DATA, "text is not UTF-8") from exc


def _control_event(first: int, payload: bytes) -> Event:
    if first == PING:
        return Event(EventKind.PING, payload)
    if first == PONG:
        return Event(EventKind.PONG, payload)
    if len(payload) == 1:
        raise FrameError(PROTOCOL_ERROR, "close frame with one byte")
    if payload:
        code = int.from_bytes(payload[:2], "big")
        if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
            raise FrameError(PROTOCOL_ERROR, "invalid close code")
        _check_utf8(payload[2:])
    return Event(EventKind.CLOSE, payload)
