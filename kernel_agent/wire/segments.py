"""Consecutive entries of the log, and their form in a file. Pure."""

from __future__ import annotations

import struct
from typing import List, Optional, Protocol, Sequence

from kernel_agent.wire.entries import Entry
from kernel_agent.wire.message import CONTROL, IOPUB, SHELL, STDIN, Message

_CHANNELS = (IOPUB, SHELL, CONTROL, STDIN)
_CHANNEL_NUMBERS = {channel: number for number, channel in enumerate(_CHANNELS)}
_COUNT = struct.Struct("<I")
_HEAD = struct.Struct("<QqQQQBI")
"""number, to, outputs, output_bytes, output_size, channel, number of parts; the lengths follow."""
_PLAIN_HEAD = struct.Struct("<QqQQQBI4Q").pack
"""The same with the lengths of four parts."""


class Spill(Protocol):
    """Where entries go that the memory has no room for. It belongs to the log alone."""

    def write(self, pieces: Sequence[bytes]) -> Optional[int]:
        """Write bytes; return their location, None if that is not possible (any more)."""

    def read(self, location: int) -> Optional[bytes]:
        """Return what was written; None if it cannot be read."""

    def free(self, location: int) -> None:
        """Give the space back."""


class Segment:
    """Consecutive entries, which are written and dropped together.

    Attributes:
        first: number of its first entry.
        entries: its entries, without a gap; None if they are packed.
        data: its packed entries; None if they are not packed, or in the spill.
        size: the memory that it takes: `Message.size` of its messages, or the length of `data`.
        opened: when it was begun.
        latest: when its newest entry was appended.
        location: where it is in the spill.
        stored_size: its bytes there; 0 if it is not there.
    """

    __slots__ = (
        "data",
        "entries",
        "first",
        "latest",
        "location",
        "opened",
        "size",
        "stored_size",
    )

    def __init__(self, first: int, now: float) -> None:
        self.first = first
        self.entries: Optional[List[Entry]] = []
        self.data: Optional[bytes] = None
        self.size = 0
        self.opened = now
        self.latest = now
        self.location = 0
        self.stored_size = 0

    def pack(self) -> None:
        """Pack the entries: one bytes object takes half the memory of many small messages."""
        if self.entries is not None:
            self.data = b"".join(pack(self.entries))
            self.entries = None
            self.size = len(self.data)

    def pieces(self) -> List[bytes]:
        """Return the packed entries, to be written; only if they are in memory."""
        return [self.data] if self.data is not None else pack(self.entries or [])


def pack(entries: Sequence[Entry]) -> List[bytes]:
    """Return the pieces of the form in a file: numbers and lengths of all entries, then parts."""
    head = [_COUNT.pack(len(entries))]
    parts: List[bytes] = []
    for number, message, *counts, _ in entries:
        own = message.parts
        fields = (number, *counts, _CHANNEL_NUMBERS[message.channel], len(own))
        if len(own) == 4:
            header, parent, metadata, content = own
            lengths = (len(header), len(parent), len(metadata), len(content))
            head.append(_PLAIN_HEAD(*fields, *lengths))
        else:
            head += (_HEAD.pack(*fields), struct.pack(f"<{len(own)}Q", *map(len, own)))
        parts += own
    return [b"".join(head), *parts]


def unpack(data: bytes) -> List[Entry]:
    """Return the entries that `pack` made the bytes from."""
    (count,) = _COUNT.unpack_from(data)
    offset = _COUNT.size
    heads = []
    for _ in range(count):
        head = _HEAD.unpack_from(data, offset)
        lengths = struct.unpack_from(f"<{head[6]}Q", data, offset + _HEAD.size)
        offset += _HEAD.size + 8 * head[6]
        heads.append((head, lengths))
    entries: List[Entry] = []
    for head, lengths in heads:
        parts = []
        for length in lengths:
            parts.append(data[offset : offset + length])
            offset += length
        number, to, outputs, output_bytes, output_size, channel, _ = head
        message = Message(_CHANNELS[channel], parts)
        entries.append(Entry(number, message, to, outputs, output_bytes, output_size))
    return entries
