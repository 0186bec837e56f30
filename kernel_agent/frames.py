"""WebSocket frames of a server (RFC 6455 section 5), bytes in and bytes out.

Incoming frames are taken apart by wsproto's `FrameDecoder`. Its `MessageDecoder` is left out on
purpose: it refuses text that is not UTF-8, and Jupyter servers that act as gateway clients send
legacy-binary messages, whose first byte is always 0x00, in text frames.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Iterator, NamedTuple, Optional

from wsproto.frame_protocol import CloseReason, FrameDecoder, Opcode, ParseFailed

_SHORT = struct.Struct("!BB").pack
_MEDIUM = struct.Struct("!BBH").pack
_LONG = struct.Struct("!BBQ").pack

TEXT = 0x80 | Opcode.TEXT.value
BINARY = 0x80 | Opcode.BINARY.value
CLOSE = 0x80 | Opcode.CLOSE.value
PING = 0x80 | Opcode.PING.value
PONG = 0x80 | Opcode.PONG.value
NO_STATUS = 1000
"""What to answer a close frame without a code with."""


class EventKind(Enum):
    """What arrived."""

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
    """The peer broke the protocol; the connection must be closed with `code`."""

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
    """Return a close frame; the reason is cut to what fits."""
    payload = struct.pack("!H", code) + reason.encode()[:100]
    return frame_header(CLOSE, len(payload)) + payload


class FrameReader:
    """Turns bytes of one connection into events."""

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._decoder = FrameDecoder(client=False)
        self._kind: Optional[EventKind] = None
        self._chunks = bytearray()

    def receive(self, data: bytes) -> Iterator[Event]:
        """Yield what became complete with `data`.

        Text has been checked to be UTF-8 unless it begins with byte 0x00.

        Raises:
            FrameError: with code 1002, 1007 or 1009. The reader must not be used again.
        """
        self._decoder.receive_bytes(data)
        try:
            while True:
                frame = self._decoder.process_buffer()
                self._check_announced_size()
                if frame is None:
                    return
                payload = bytes(frame.payload)  # type: ignore[arg-type]  # bytes unless a MessageDecoder decoded it
                if frame.opcode.iscontrol():
                    yield _control_event(frame.opcode, payload)
                    continue
                event = self._take(
                    frame.opcode, payload, finished=frame.frame_finished and frame.message_finished
                )
                if event is not None:
                    yield event
        except ParseFailed as exc:
            raise FrameError(int(exc.code), str(exc)) from exc

    def _check_announced_size(self) -> None:
        header = self._decoder.header
        if header is None or header.opcode.iscontrol():
            announced = len(self._chunks)
        else:
            announced = len(self._chunks) + header.payload_len - self._decoder.payload_consumed
        if announced > self._max_message_bytes:
            raise FrameError(int(CloseReason.MESSAGE_TOO_BIG), "message too big")

    def _take(self, opcode: Opcode, payload: bytes, *, finished: bool) -> Optional[Event]:
        if self._kind is None:
            if opcode is Opcode.CONTINUATION:
                raise FrameError(int(CloseReason.PROTOCOL_ERROR), "unexpected continuation")
            self._kind = EventKind.TEXT if opcode is Opcode.TEXT else EventKind.BINARY
        elif opcode is not Opcode.CONTINUATION:
            raise FrameError(int(CloseReason.PROTOCOL_ERROR), "expected a continuation")
        if finished and not self._chunks:
            message = payload
        else:
            self._chunks += payload
            if len(self._chunks) > self._max_message_bytes:
                raise FrameError(int(CloseReason.MESSAGE_TOO_BIG), "message too big")
            if not finished:
                return None
            message = bytes(self._chunks)
        kind, self._kind = self._kind, None
        self._chunks = bytearray()
        if kind is EventKind.TEXT and message[:1] != b"\0":
            _check_utf8(message)
        return Event(kind, message)


def _check_utf8(message: bytes) -> None:
    if message.isascii():
        return
    try:
        message.decode()
    except UnicodeDecodeError as exc:
        raise FrameError(int(CloseReason.INVALID_FRAME_PAYLOAD_DATA), "text is not UTF-8") from exc


def _control_event(opcode: Opcode, payload: bytes) -> Event:
    if opcode is Opcode.PING:
        return Event(EventKind.PING, payload)
    if opcode is Opcode.PONG:
        return Event(EventKind.PONG, payload)
    if len(payload) == 1:
        raise FrameError(int(CloseReason.PROTOCOL_ERROR), "close frame with one byte")
    if payload:
        code = int.from_bytes(payload[:2], "big")
        if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
            raise FrameError(int(CloseReason.PROTOCOL_ERROR), "invalid close code")
        _check_utf8(payload[2:])
    return Event(EventKind.CLOSE, payload)
