"""Encodes messages for one client, by its codec and its limits. Pure."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.codec import Codec, encode
from kernel_agent.wire.message import Message, decode_object

NO_LIMIT = 1 << 63
LEAST_LIMIT = 4096
"""Lowest limit that is deduced for a client: below it the client could read neither a kernel_info
reply nor the notice that replaces a message."""
SUSPECT_BYTES = 1024 * 1024
"""Size from which on a message may have broken a connection without a close frame."""
MAX_NOTIFIED_CELLS = 64
"""Number of cells remembered as having their notice of missing buffers."""


class Peer:
    """Capabilities and limits of one client, across its connections.

    Attributes:
        takes_binary: whether it sent a binary frame, and so reads them.
        max_bytes: size of the largest message that it accepts.
        has_refused: whether `max_bytes` is deduced from such a close.
        suspect: header of the large message at which the latest connection broke.
        cell: header of the latest execute_request whose output it was sent.
        notified_cells: headers of the requests that have a notice of missing buffers.
    """

    __slots__ = (
        "cell",
        "has_refused",
        "max_bytes",
        "notified_cells",
        "suspect",
        "takes_binary",
    )

    def __init__(self) -> None:
        self.takes_binary = False
        self.max_bytes = NO_LIMIT
        self.has_refused = False
        self.suspect = b""
        self.cell = b""
        self.notified_cells: List[bytes] = []

    def adopt(self, former: "Peer") -> None:
        """Learn what was known of the same client on its former connection."""
        self.takes_binary = self.takes_binary or former.takes_binary
        self.max_bytes = min(self.max_bytes, former.max_bytes)
        self.has_refused = self.has_refused or former.has_refused
        self.suspect = former.suspect
        self.cell = self.cell or former.cell
        self.notified_cells = (former.notified_cells + self.notified_cells)[-MAX_NOTIFIED_CELLS:]


class PeerEncoder:
    """Encodes batches for one connection of a client."""

    def __init__(
        self,
        codec: Codec,
        *,
        max_bytes: int,
        max_output_bytes: int = 0,
        peer: Peer,
        factory: MessageFactory,
    ) -> None:
        """Prepare.

        Args:
            codec: codec of the handshake.
            max_bytes: the client's limit; a notice replaces a larger message.
            max_output_bytes: the limit of the gateway's operator; 0: none.
            peer: the client.
            factory: makes the notices.
        """
        self._codec = codec
        self._peer = peer
        self._factory = factory
        self._max_output_bytes = max_output_bytes or NO_LIMIT
        peer.max_bytes = min(peer.max_bytes, max_bytes)
        if peer.takes_binary:
            self.allow_binary()

    def allow_binary(self) -> None:
        """Allow binary frames, since the client sent one itself."""
        self._peer.takes_binary = True
        if self._codec is Codec.TEXT_ONLY:
            self._codec = Codec.LEGACY

    def encode_batch(self, messages: Sequence[Message]) -> List[bytes]:
        """Return the frames of a batch."""
        codec, peer = self._codec, self._peer
        pieces: List[bytes] = []
        limit = min(peer.max_bytes, self._max_output_bytes)
        if codec is not Codec.TEXT_ONLY and limit == NO_LIMIT:
            for message in messages:
                pieces += encode(message, codec)
            return pieces
        for message in messages:
            if codec is Codec.TEXT_ONLY:
                pieces += self._missing_buffers(message)
            pieces += self._encode_within_limit(message)
        return pieces

    def lower_limit(self, unacknowledged: Sequence[Message]) -> Optional[int]:
        """Lower the client's limit, after it closed the connection because of a message's size.

        The message is one that it had not acknowledged, so the largest of them is over its limit.
        From the second time on the limit is halved besides, so that a client with many messages
        over its limit does not reconnect for each of them.

        Returns:
            The limit; None if no unacknowledged message can have been too large.
        """
        largest = self._largest(unacknowledged)
        if largest is None or largest[0] <= LEAST_LIMIT:
            return None
        peer = self._peer
        limit = largest[0] - 1
        if peer.has_refused:
            limit = min(limit, peer.max_bytes // 2)
        peer.has_refused = True
        peer.max_bytes = max(limit, LEAST_LIMIT)
        return peer.max_bytes

    def record_break(self, unacknowledged: Sequence[Message]) -> bool:
        """Record that the connection broke without a close frame.

        A client reads in order and acknowledges what it has read, so the connection broke at the
        first large message that is not acknowledged. If the former one broke there as well, notices
        replace this message, and others that are not smaller, from now on.

        Returns:
            Whether the client's limit was lowered.
        """
        peer = self._peer
        large = (message for message in unacknowledged if message.size >= SUSPECT_BYTES)
        first = next((message for message in large if self._is_within_limit(message)), None)
        suspect, peer.suspect = peer.suspect, first.parts[0] if first is not None else b""
        if first is None or suspect != peer.suspect:
            return False
        peer.max_bytes = self._size(first) - 1
        return True

    def _largest(self, messages: Sequence[Message]) -> Optional[Tuple[int, Message]]:
        """Return the largest message that was not replaced by a notice, and its encoded size."""
        for message in sorted(messages, key=lambda message: message.size, reverse=True):
            if self._is_within_limit(message):
                return self._size(message), message
        return None

    def _size(self, message: Message) -> int:
        return sum(map(len, encode(message, self._codec)))

    def _is_within_limit(self, message: Message) -> bool:
        return self._size(message) <= min(self._peer.max_bytes, self._max_output_bytes)

    def _missing_buffers(self, message: Message) -> Sequence[bytes]:
        """Return the notice that buffers are left out, once for each cell; () if none is due.

        A client shows no output of comm messages, so the notice about one goes under the cell that
        ran last.
        """
        header, parent = message.parts[:2]
        peer = self._peer
        if b'"execute_input"' in header:
            peer.cell = parent
        if not message.buffers:
            return ()
        is_of_cell = (decode_object(parent) or {}).get("msg_type") == "execute_request"
        cell = parent if is_of_cell else peer.cell or parent
        if cell in peer.notified_cells:
            return ()
        peer.notified_cells.append(cell)
        del peer.notified_cells[:-MAX_NOTIFIED_CELLS]
        return encode(self._factory.missing_buffers(cell), self._codec)

    def _encode_within_limit(self, message: Message) -> Sequence[bytes]:
        peer = self._peer
        encoded = encode(message, self._codec)
        size = sum(map(len, encoded))
        if size > peer.max_bytes:
            return encode(self._factory.too_large(message, size, peer.max_bytes), self._codec)
        if size > self._max_output_bytes:
            notice = self._factory.not_allowed(message, size, self._max_output_bytes)
            return encode(notice, self._codec)
        return encoded
