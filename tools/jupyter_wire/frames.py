"""WebSocket frames (RFC 6455 section 5) and the opening handshake, without I/O.

A message costs next to nothing, so that benchmarks measure the server and not their client: frames
are counted by their headers, and payloads are read only where they may hold the text that the
caller waits for.
"""

import os
import struct
from base64 import b64encode
from collections.abc import Mapping, MutableSequence
from enum import IntEnum
from hashlib import sha1
from typing import TypeAlias

SEARCHED_BYTES = 64 * 1024
"""Payloads above this size are skipped unread, unless they are collected."""

NO_MASK = b"\0\0\0\0"
"""A valid masking key, which leaves the payload as it is and costs nothing."""

_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Opcode(IntEnum):
    """RFC 6455 section 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


Data: TypeAlias = tuple[int, bytes]
"""A whole data message: its opcode, TEXT or BINARY, and its payload."""


class FrameReader:
    """Reads a stream of unmasked frames, as servers send them.

    Attributes:
        messages: data messages seen to their end.
        payload_bytes: their size.
        pings: payloads of pings that the caller has to answer, and then to remove.
        is_closed: whether a close frame came.
        close_code: its status code; 0 if it has none or did not come.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.payload_bytes = 0
        self.pings: list[bytes] = []
        self.is_closed = False
        self.close_code = 0
        self._pending = b""
        self._skip = 0
        self._fragments: list[bytes] = []
        self._fragmented = 0

    def feed(  # noqa: C901, PLR0912 - split up it would cost a call a frame
        self, data: bytes, collect: MutableSequence[Data] | None = None
    ) -> bytes:
        """Read the next bytes from the socket.

        Args:
            data: any cut of the stream.
            collect: gets every data message; no payload is skipped then.

        Returns:
            The bytes of the complete frames that were not skipped, to search in.
        """
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            if skipped == len(data):
                return b""
            data = data[skipped:]
        if self._pending:
            data = self._pending + data
        position = 0
        size = len(data)
        messages = payload = 0
        frame = 0
        while size - position >= 2:
            frame = position
            first = data[position]
            length = data[position + 1]
            start = position + 2
            if length == 126:
                start += 2
                if start > size:
                    break
                length = (data[position + 2] << 8) | data[position + 3]
            elif length == 127:
                start += 8
                if start > size:
                    break
                length = int.from_bytes(data[position + 2 : start], "big")
            end = start + length
            if end > size and (length <= SEARCHED_BYTES or collect is not None):
                break
            if first == 0x82 or first == 0x81:  # noqa: PLR1714 - a set look-up costs twice as much, in the innermost loop
                messages += 1
                payload += length
                if collect is not None:
                    collect.append((first & 0x0F, data[start:end]))
            else:
                messages += self._read_other(first, data[start:end], collect)
                payload += length if first & 0x0F <= Opcode.BINARY else 0
            position = end
        self.messages += messages
        self.payload_bytes += payload
        if position > size:
            self._skip = position - size
            self._pending = b""
            return data[:frame]
        self._pending = data[position:]
        return data[:position]

    def _read_other(
        self, first: int, payload: bytes, collect: MutableSequence[Data] | None
    ) -> bool:
        """Read a control frame or a fragment; return whether a data message is complete."""
        opcode = first & 0x0F
        if opcode == Opcode.PING:
            self.pings.append(payload)
        elif opcode == Opcode.CLOSE:
            self.is_closed = True
            self.close_code = int.from_bytes(payload[:2], "big")
        if opcode > Opcode.BINARY:
            return False
        is_last = bool(first & 0x80)
        if collect is not None:
            self._fragmented = opcode or self._fragmented
            self._fragments.append(payload)
            if is_last:
                collect.append((self._fragmented, b"".join(self._fragments)))
                self._fragments.clear()
        return is_last


def make_key() -> str:
    """Return the `Sec-WebSocket-Key` of a new connection."""
    return b64encode(os.urandom(16)).decode()


def accept_of(key: str) -> str:
    """Return the `Sec-WebSocket-Accept` that answers a key."""
    return b64encode(sha1(key.encode() + _ACCEPT_SUFFIX, usedforsecurity=False).digest()).decode()


def upgrade_request(
    host: str, port: int, target: str, headers: Mapping[str, str], key: str
) -> bytes:
    """Return the head that asks for a WebSocket (RFC 6455 section 4.1)."""
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {host}:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def client_frame(payload: bytes, opcode: int, mask: bytes = NO_MASK) -> bytes:
    """Return one whole frame, masked."""
    if mask != NO_MASK:
        payload = _apply_mask(payload, mask)
    return _head(opcode, len(payload), 0x80) + mask + payload


def server_frame(payload: bytes, opcode: int) -> bytes:
    """Return one whole frame as servers send it, without a mask."""
    return _head(opcode, len(payload), 0) + payload


def _head(opcode: int, length: int, mask_bit: int) -> bytes:
    if length < 126:
        return struct.pack("!BB", 0x80 | opcode, mask_bit | length)
    if length < 65536:
        return struct.pack("!BBH", 0x80 | opcode, mask_bit | 126, length)
    return struct.pack("!BBQ", 0x80 | opcode, mask_bit | 127, length)


def _apply_mask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return masked.to_bytes(size, "big")
