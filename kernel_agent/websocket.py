"""One client's WebSocket: the I/O shell around frames, codec and outbox."""

from __future__ import annotations

import asyncio
import logging
from typing import Callable, List, Optional

from kernel_agent.codec import Codec, DecodeError, Request, decode, encode
from kernel_agent.frames import (
    PING,
    PONG,
    Event,
    EventKind,
    FrameError,
    FrameReader,
    close_frame,
    frame_header,
)
from kernel_agent.message import Message
from kernel_agent.notices import MessageFactory
from kernel_agent.sessions import Connection, Session, Sessions

WRITE_BATCH_BYTES = 512 * 1024
WRITE_BUFFER_BYTES = 256 * 1024
TORNADO_MAX_BYTES = 10 * 1024 * 1024
"""Tornado's WebSocket client closes the connection on a larger message, and would do so after every resend."""
CLOSE_TIMEOUT = 5.0
"""Seconds for the peer to read what is under way before the connection is cut."""
SILENT_INTERVALS = 3
"""After so many ping intervals without a pong the connection is closed."""
KEEP_ALIVE = frame_header(PING, 4) + b"live"

logger = logging.getLogger(__name__)


class WebSocket(asyncio.Protocol, Connection):
    """A connected client. `receive` is called with every well-formed message."""

    def __init__(
        self,
        *,
        codec: Codec,
        is_tornado: bool,
        max_message_bytes: int,
        ping_interval: float,
        factory: MessageFactory,
        receive: Callable[[Session, Request], None],
        disconnected: Callable[[], None],
    ) -> None:
        self._codec = codec
        self._is_tornado = is_tornado
        self._ping_interval = ping_interval
        self._factory = factory
        self._receive = receive
        self._disconnected = disconnected
        self._reader = FrameReader(max_message_bytes)
        self._transport: Optional[asyncio.Transport] = None
        self._session: Optional[Session] = None
        self._sessions: Optional[Sessions] = None
        self._loop = asyncio.get_running_loop()
        self._last_heard = self._loop.time()
        self._timer: Optional[asyncio.TimerHandle] = None
        self._is_paused = False
        self._is_closing = False
        self._has_warned = False

    def open(
        self, transport: asyncio.Transport, sessions: Sessions, session_id: str, early_data: bytes
    ) -> None:
        """Take over an upgraded connection; `early_data` is what followed the handshake."""
        self._transport = transport
        self._sessions = sessions
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        transport.set_protocol(self)
        self._session = sessions.connect(session_id, self)
        self._timer = self._loop.call_later(self._ping_interval, self._keep_alive)
        self.pump()
        if early_data:
            self.data_received(early_data)

    def pump(self) -> None:
        """Send what waits in the outbox until the transport asks to pause."""
        session, transport = self._session, self._transport
        if session is None or transport is None:
            return
        outbox = session.outbox
        codec = self._codec
        is_plain = codec is not Codec.TEXT_ONLY and not self._is_tornado
        while not self._is_paused and not self._is_closing:
            pieces: List[bytes] = []
            loss = outbox.take_loss()
            if loss is not None:
                pieces += encode(self._factory.loss(loss), codec)
            for message in outbox.take(WRITE_BATCH_BYTES):
                if is_plain:
                    pieces += encode(message, codec)
                else:
                    self._add_guarded(message, pieces)
            if not pieces:
                return
            self._add_ping(pieces)
            transport.writelines(pieces)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and let go; a peer that does not read is cut off after a while."""
        transport = self._transport
        if self._is_closing or transport is None:
            return
        self._is_closing = True
        transport.write(close_frame(code, reason))
        transport.close()
        self._detach()
        self._timer = self._loop.call_later(CLOSE_TIMEOUT, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the peer."""
        self._last_heard = self._loop.time()
        try:
            for event in self._reader.receive(data):
                if self._is_closing:
                    return
                self._handle(event)
        except FrameError as exc:
            logger.warning("closing a WebSocket: %s", exc)
            self.close(exc.code, str(exc))

    def pause_writing(self) -> None:
        """Leave messages in the outbox until the peer has read what is under way."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Go on sending."""
        self._is_paused = False
        self.pump()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Let the session wait for its next connection."""
        self._is_closing = True
        self._detach()
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None

    def _detach(self) -> None:
        if self._session is not None and self._sessions is not None:
            session, self._session = self._session, None
            self._sessions.disconnect(session, self)
            self._disconnected()
        if self._timer is not None:
            self._timer.cancel()

    def _handle(self, event: Event) -> None:
        session, transport = self._session, self._transport
        if session is None or transport is None:
            return
        if event.kind is EventKind.PONG:
            if len(event.payload) == 8 and session.outbox.acknowledge(
                int.from_bytes(event.payload, "big")
            ):
                pieces: List[bytes] = []
                self._add_ping(pieces)
                transport.writelines(pieces)
                if self._sessions is not None:
                    self._sessions.note_progress()
        elif event.kind is EventKind.PING:
            transport.write(frame_header(PONG, len(event.payload)) + event.payload)
        elif event.kind is EventKind.CLOSE:
            self.close(int.from_bytes(event.payload[:2], "big") or 1000, "")
        else:
            try:
                request = decode(event.payload, self._codec)
            except DecodeError as exc:
                logger.warning("a client's message was dropped: %s", exc)
                return
            self._receive(session, request)

    def _add_ping(self, pieces: List[bytes]) -> None:
        number = self._session.outbox.next_ping() if self._session is not None else None
        if number is not None:
            pieces.append(frame_header(PING, 8) + number.to_bytes(8, "big"))

    def _add_guarded(self, message: Message, pieces: List[bytes]) -> None:
        """Add a message for a peer that must not get everything as it is."""
        if self._codec is Codec.TEXT_ONLY and message.buffers and not self._has_warned:
            self._has_warned = True
            text = (
                "\n[this client cannot receive binary buffers; they were left out of a message]\n"
            )
            pieces += encode(self._factory.stderr(text, message.parts[1]), self._codec)
        encoded = encode(message, self._codec)
        size = sum(map(len, encoded))
        if self._is_tornado and size > TORNADO_MAX_BYTES:
            message.wire.pop(self._codec, None)
            encoded = encode(self._factory.replacement(message, size), self._codec)
        pieces += encoded

    def _keep_alive(self) -> None:
        if self._transport is None or self._is_closing:
            return
        if self._loop.time() - self._last_heard > SILENT_INTERVALS * self._ping_interval:
            logger.warning("closing a WebSocket: its peer is silent")
            self._transport.abort()
            return
        self._transport.write(KEEP_ALIVE)
        self._timer = self._loop.call_later(self._ping_interval, self._keep_alive)
