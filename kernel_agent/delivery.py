"""How one peer gets its messages: its codec, and what it cannot take. Pure."""

from __future__ import annotations

from typing import List, Optional, Sequence

from kernel_agent.codec import Codec, encode
from kernel_agent.message import Message
from kernel_agent.notices import MessageFactory
from kernel_agent.outbox import Loss

TORNADO_MAX_BYTES = 10 * 1024 * 1024
"""Tornado's WebSocket client closes the connection on a larger message, and would do so again
after every resend."""
NO_BUFFERS = "\n[this client cannot receive binary buffers; they were left out of a message]\n"


class Delivery:
    """Encodes batches for one connection."""

    def __init__(self, codec: Codec, *, is_tornado: bool, factory: MessageFactory) -> None:
        self._codec = codec
        self._is_tornado = is_tornado
        self._factory = factory
        self._has_warned = False

    def encode_batch(self, messages: Sequence[Message], loss: Optional[Loss]) -> List[bytes]:
        """Return the frames of a batch, and before it, if output was lost, those of a notice."""
        codec = self._codec
        pieces: List[bytes] = []
        if loss is not None:
            pieces += encode(self._factory.loss(loss), codec)
        if not self._is_tornado:
            for message in messages:
                pieces += encode(message, codec)
            return pieces
        for message in messages:
            pieces += self._encode_for_tornado(message)
        return pieces

    def _encode_for_tornado(self, message: Message) -> List[bytes]:
        pieces: List[bytes] = []
        if self._codec is Codec.TEXT_ONLY and message.buffers and not self._has_warned:
            self._has_warned = True
            pieces += encode(self._factory.stderr(NO_BUFFERS, message.parts[1]), self._codec)
        encoded = encode(message, self._codec)
        size = sum(map(len, encoded))
        if size > TORNADO_MAX_BYTES:
            encoded = encode(self._factory.replacement(message, size), self._codec)
        return [*pieces, *encoded]
