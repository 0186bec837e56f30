"""WebSocket frames that pass (RFC 6455): where they end, and the last ones of a client. Pure.

While an agent lives the gateway looks at the heads of frames only, which tell it where a frame
ends. So it can go on in the place of an agent that is gone.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
"""Opcodes."""
KEPT_BYTES = 8 * 1024
"""How much of what a client sent last is kept: a gateway has thousands of them."""
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest message that the client of a dead kernel may send."""

_CONTINUATION = 0x0
_FIN, _OPCODE, _CONTROL = 0x80, 0xF, 0x8
_MASKED, _MASK_BYTES = 0x80, 4
_MAX_SHORT = 125


class Frame(NamedTuple):
    """A control frame, or a whole message."""

    opcode: int
    payload: bytes

    @property
    def data(self) -> str | bytes:
        """The message, as text if it is one.

        Jupyter servers send binary messages, which begin with a zero byte, as text.
        """
        if self.opcode == BINARY or self.payload[:1] == b"\0":
            return self.payload
        return self.payload.decode(errors="replace")


class FrameEnds:
    """Knows whether what has passed from an agent ends with a frame."""

    def __init__(self) -> None:
        self._left = 0
        """How many bytes of the present frame are to come, once its head has passed."""
        self._head = b""
        """The beginning of a head."""
        self._is_closed = False

    def feed(self, data: bytes | memoryview) -> None:
        """Take note of bytes that pass."""
        if self._head:
            data = self._head + data
            self._head = b""
        at, size = self._left, len(data)
        while at + 4 <= size:  # as `_frame_end`, in a quarter of the time: there may be many
            length = data[at + 1]
            if length <= _MAX_SHORT:
                self._is_closed |= data[at] == _FIN | CLOSE
                at += 2 + length
            elif length == 126:
                at += 4 + (data[at + 2] << 8) + data[at + 3]
            else:
                break
        while at < size:
            end = _frame_end(data, at)
            if end < 0:
                self._head = bytes(data[at:])
                end = size
            else:
                self._is_closed |= data[at] == _FIN | CLOSE
            at = end
        self._left = at - size

    @property
    def is_cut(self) -> bool:
        """Whether it ends between two frames, and no close frame was among them."""
        return not (self._left or self._head or self._is_closed)


class ClientFrames:
    """Keeps what a client sent last, from the beginning of a frame on.

    Attributes:
        kept_bytes: how much is kept, up to twice as much until the next frames.
    """

    def __init__(self) -> None:
        self.kept_bytes = KEPT_BYTES
        self._bytes = bytearray()
        self._skip = 0
        """How many bytes are to come of a frame that was dropped."""
        self._fragments = bytearray()
        self._opcode = _CONTINUATION

    def feed(self, data: bytes | memoryview) -> None:
        """Take note of bytes that have come."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._bytes += data
        if len(self._bytes) > 2 * self.kept_bytes:
            self._drop()

    def take_unacknowledged(self) -> list[Frame]:
        """Remove all frames, and return the messages that the agent may not have told of.

        An agent sends one ping at a time, and waits for the pong: when a second pong comes, its
        state document has had the time to tell of what came before the first.
        """
        frames = list(self.take())
        pongs = [index for index, frame in enumerate(frames) if frame.opcode == PONG]
        since = pongs[-2] if len(pongs) > 1 else 0
        return [frame for frame in frames[since:] if frame.opcode in (TEXT, BINARY)]

    def take(self) -> Iterator[Frame]:
        """Remove and yield the frames that are complete."""
        while 0 <= (end := _frame_end(self._bytes, 0)) <= len(self._bytes):
            frame = self._bytes[:end]
            del self._bytes[:end]
            if (whole := self._join(frame[0], _payload(frame))) is not None:
                yield whole

    def _join(self, first: int, payload: bytes) -> Frame | None:
        """Return a control frame, or a message with its last frame."""
        opcode = first & _OPCODE
        if opcode & _CONTROL:
            return Frame(opcode, payload)
        if opcode != _CONTINUATION:
            self._opcode, self._fragments = opcode, bytearray()
        if len(self._fragments) + len(payload) > MAX_MESSAGE_BYTES:
            self._opcode = _CONTINUATION
        if self._opcode == _CONTINUATION:
            return None  # its beginning was dropped
        self._fragments += payload
        if not first & _FIN:
            return None
        whole = Frame(self._opcode, bytes(self._fragments))
        self._opcode, self._fragments = _CONTINUATION, bytearray()
        return whole

    def _drop(self) -> None:
        """Drop the oldest frames."""
        at, size = 0, len(self._bytes)
        while size - at > self.kept_bytes and (end := _frame_end(self._bytes, at)) >= 0:
            at = end
        self._skip = max(0, at - size)
        del self._bytes[:at]


def frame(data: str | bytes) -> bytes:
    """Return a message as a frame of a server."""
    return _server_frame(*((TEXT, data.encode()) if isinstance(data, str) else (BINARY, data)))


def pong_frame(payload: bytes) -> bytes:
    """Return the answer to a ping."""
    return _server_frame(PONG, payload)


def close_frame(code: int) -> bytes:
    """Return a close frame without an explanation: the messages before it have one."""
    return _server_frame(CLOSE, struct.pack("!H", code))


def _server_frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= _MAX_SHORT:
        head = struct.pack("!BB", _FIN | opcode, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FIN | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, 127, size)
    return head + payload


def _frame_end(data: bytes | bytearray | memoryview, at: int) -> int:
    """Return where the frame ends that begins at a position; -1 if its head is not complete."""
    size = len(data)
    if at + 2 > size:
        return -1
    length = data[at + 1]
    start = at + 2
    if length > _MAX_SHORT:
        if length & _MASKED:
            start += _MASK_BYTES
            length &= ~_MASKED
        if length > _MAX_SHORT:
            extended = 2 if length == 126 else 8
            start += extended
            if start > size:
                return -1
            length = int.from_bytes(data[at + 2 : at + 2 + extended])
    return start + length


def _payload(frame: bytearray) -> bytes:
    """Return the payload of a client's complete frame, unmasked (RFC 6455 section 5.3)."""
    size = _frame_end(frame, 0)
    length = frame[1] & ~_MASKED
    start = 2 + {126: 2, 127: 8}.get(length, 0)
    if not frame[1] & _MASKED:
        return bytes(frame[start:size])
    mask, start = frame[start : start + _MASK_BYTES], start + _MASK_BYTES
    count = size - start
    key = int.from_bytes((mask * (count // _MASK_BYTES + 1))[:count])
    return (int.from_bytes(frame[start:]) ^ key).to_bytes(count)
