"""ZMTP, the transport protocol of ZeroMQ, on the side that connects. Pure: bytes in, bytes out.

Version 3.0 (https://rfc.zeromq.org/spec/23/) with the mechanism NULL, which is all that Jupyter
kernels use, and version 2.0 (https://rfc.zeromq.org/spec/15/) for kernels with an old library.
Peers of version 3.1 speak 3.0 with a peer that announces it.
"""

from __future__ import annotations

from enum import Enum
from typing import List, Sequence, Tuple

MORE = 1
LARGE = 2
COMMAND = 4
SHORT_MAX_BYTES = 255

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING_END = b"\x00NULL" + bytes(16 + 1 + 31)
"""What follows the major version: minor version, mechanism, as-server, filler."""
GREETING_BYTES = 64
VERSION_OFFSET = 10
MECHANISM = slice(12, 32)
NULL = b"NULL".ljust(20, b"\0")
OLD_GREETING_BYTES = 12
"""Length of a greeting of version 2.0, which its identity follows as a frame."""
SUBSCRIBE_TO_ALL = b"\x01"
"""The message by which a SUB subscribes to every topic."""
JOIN_MAX_BYTES = 64 * 1024
"""Messages up to this size are encoded as one piece; larger ones are not copied."""


class SocketType(Enum):
    """The kinds of socket that connect to a kernel: the name, and the number in version 2.0."""

    SUB = (b"SUB", 2)
    DEALER = (b"DEALER", 5)


class ZmtpError(Exception):
    """The peer does not speak ZMTP, or refuses the connection; the caller must close it."""


def encode_message(frames: Sequence[bytes]) -> List[bytes]:
    """Return a multipart message as pieces to be sent one after the other."""
    pieces: List[bytes] = []
    for frame in frames[:-1]:
        pieces += (_frame_header(MORE, len(frame)), frame)
    pieces += (_frame_header(0, len(frames[-1])), frames[-1])
    return [b"".join(pieces)] if sum(map(len, pieces)) <= JOIN_MAX_BYTES else pieces


class ZmtpConnection:
    """The protocol's state on one connection.

    What is to be sent must be taken with `take_output` at the start and after each `receive`.

    Attributes:
        is_ready: whether the handshake is complete, and messages may be sent.
    """

    def __init__(self, socket_type: SocketType, identity: bytes = b"") -> None:
        self._socket_type = socket_type
        self._identity = identity
        self._output = SIGNATURE + b"\x03"
        self._is_greeted = False
        self._is_old = False
        self._unread = b""
        self._flags = 0
        self._body: List[bytes] = []
        self._missing = 0
        self._frames: List[bytes] = []
        self.is_ready = False

    def take_output(self) -> bytes:
        """Return the bytes of the handshake, or the answer to a ping, that are to be sent."""
        output, self._output = self._output, b""
        return output

    def receive(self, data: bytes) -> List[List[bytes]]:
        """Return the frames of each message that `data` completes.

        Raises:
            ZmtpError: the connection is of no use.
        """
        messages: List[List[bytes]] = []
        if self._missing:
            if len(data) < self._missing:
                self._body.append(data)
                self._missing -= len(data)
                return messages
            position, self._missing = self._missing, 0
            body, self._body = b"".join((*self._body, data[:position])), []
            self._add_frame(self._flags, body, messages)
        else:
            data = self._unread + data
            position = 0 if self._is_greeted else self._read_greeting(data)
        if self._is_greeted:
            position = self._read_frames(data, position, messages)
        self._unread = data[position:]
        return messages

    def _read_frames(self, data: bytes, position: int, messages: List[List[bytes]]) -> int:
        """Read the frames from `position` on; return where the rest begins."""
        frames = self._frames
        size = len(data)
        while position + 2 <= size:
            flags = data[position]
            if flags & LARGE:
                start = position + 9
                if start > size:
                    break
                end = start + int.from_bytes(data[position + 1 : start], "big")
            else:
                start = position + 2
                end = start + data[position + 1]
            if end > size:
                self._flags = flags
                self._body = [data[start:]]
                self._missing = end - size
                return size
            position = end
            if flags == MORE or flags == MORE | LARGE:
                frames.append(data[start:end])
            else:
                self._add_frame(flags, data[start:end], messages)
                frames = self._frames
        return position

    def _add_frame(self, flags: int, body: bytes, messages: List[List[bytes]]) -> None:
        if flags > MORE | LARGE | COMMAND:
            raise ZmtpError(f"a frame with the flags {flags:#x}")
        if flags & COMMAND:
            self._handle_command(body)
            return
        if self._is_old and not self.is_ready:  # the peer's identity
            self._complete_handshake()
            return
        self._frames.append(body)
        if not flags & MORE:
            messages.append(self._frames)
            self._frames = []

    def _read_greeting(self, data: bytes) -> int:
        """Answer as much of the greeting as is there; return its length once it is complete."""
        if not SIGNATURE.startswith(data[:1]) or data[9:10] not in (b"", SIGNATURE[9:]):
            raise ZmtpError("the peer does not speak ZMTP 2.0 or later")
        if len(data) <= VERSION_OFFSET:
            return 0
        is_first = not self._unread[VERSION_OFFSET:]
        self._is_old = data[VERSION_OFFSET] < 3
        if self._is_old:
            if is_first:
                number = self._socket_type.value[1]
                self._output += bytes((number, 0, len(self._identity))) + self._identity
            length = OLD_GREETING_BYTES
        else:
            if is_first:
                self._output += GREETING_END
            length = GREETING_BYTES
        if len(data) < length:
            return 0
        self._is_greeted = True
        if not self._is_old:
            if data[MECHANISM] != NULL:
                raise ZmtpError("the peer asks for a security mechanism, which kernels do not use")
            self._output += self._ready_command()
        return length

    def _ready_command(self) -> bytes:
        name = self._socket_type.value[0]
        body = b"\x05READY" + _property(b"Socket-Type", name)
        body += _property(b"Identity", self._identity)
        return bytes((COMMAND, len(body))) + body

    def _handle_command(self, body: bytes) -> None:
        name, content = _split_name(body)
        if name == b"READY":
            self._complete_handshake()
        elif name == b"ERROR":
            reason, _ = _split_name(content)
            raise ZmtpError(f"the peer refuses: {reason.decode(errors='replace')}")
        elif name == b"PING":  # two bytes of time to live, then what the answer repeats
            pong = b"\x04PONG" + content[2:]
            self._output += bytes((COMMAND, len(pong))) + pong

    def _complete_handshake(self) -> None:
        self.is_ready = True
        if self._socket_type is SocketType.SUB:
            self._output += b"".join(encode_message([SUBSCRIBE_TO_ALL]))


def _frame_header(flags: int, length: int) -> bytes:
    if length <= SHORT_MAX_BYTES:
        return bytes((flags, length))
    return bytes((flags | LARGE,)) + length.to_bytes(8, "big")


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


def _split_name(body: bytes) -> Tuple[bytes, bytes]:
    """Split what begins with a string of at most 255 bytes."""
    end = 1 + body[0] if body else 0
    return body[1:end], body[end:]
