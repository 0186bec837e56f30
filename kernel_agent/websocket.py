"""One client's WebSocket: the I/O shell around frames, codec, delivery and outbox."""

from __future__ import annotations

import asyncio
import logging
from typing import Callable, Optional, Sequence

from kernel_agent.backlog import Backlog
from kernel_agent.codec import JOIN_MAX_BYTES, Codec, DecodeError, Request, decode
from kernel_agent.delivery import Delivery
from kernel_agent.frames import (
    NO_STATUS,
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
from kernel_agent.sessions import Session, Sessions

WRITE_BATCH_BYTES = 512 * 1024
WRITE_BUFFER_BYTES = 256 * 1024
CLOSE_TIMEOUT = 5.0
"""Seconds for the peer to read what is under way before the connection is cut."""
SILENT_INTERVALS = 3
"""After so many ping intervals in which nothing came from the peer the connection is cut."""
KEEP_ALIVE = frame_header(PING, 4) + b"live"
NUMBER_BYTES = 8
"""Length of the payload of pings that ask for an acknowledgement."""
ASK_DELAY = 0.01
"""Seconds from the first message that no such ping covers to the next one. A ping and its pong cost
as much as a message, all the way to the client."""
ASK_BYTES = 256 * 1024
"""After so much the ping follows at once, since what it covers takes memory."""

logger = logging.getLogger(__name__)


class WebSocket(asyncio.Protocol):
    """A connected client; a `sessions.Connection`."""

    def __init__(
        self,
        *,
        codec: Codec,
        delivery: Delivery,
        sessions: Sessions,
        backlog: Backlog,
        max_message_bytes: int,
        ping_interval: float,
        receive: Callable[[Session, Request], None],
    ) -> None:
        """Prepare; `open` begins.

        Args:
            codec: of the client's messages.
            delivery: encodes what it gets.
            sessions: where its session lives.
            backlog: nothing is read from the client while it is full.
            max_message_bytes: a larger message closes the connection.
            ping_interval: seconds between keep-alive pings; 0: none.
            receive: gets every well-formed message.
        """
        self._codec = codec
        self._delivery = delivery
        self._sessions = sessions
        self._backlog = backlog
        self._ping_interval = ping_interval
        self._receive = receive
        self._reader = FrameReader(max_message_bytes)
        self._loop = asyncio.get_running_loop()
        self._transport: Optional[asyncio.Transport] = None
        self._session: Optional[Session] = None
        self._last_heard = self._loop.time()
        self._timer: Optional[asyncio.TimerHandle] = None
        self._ask_timer: Optional[asyncio.TimerHandle] = None
        self._is_write_paused = False
        self._is_read_paused = False

    def open(
        self,
        transport: asyncio.Transport,
        session_id: str,
        early_data: bytes,
        greeting: Sequence[Message],
    ) -> None:
        """Take over an upgraded connection.

        Args:
            transport: of the connection.
            session_id: of the client, "" if it gave none.
            early_data: what followed the handshake.
            greeting: messages for this client alone.
        """
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        transport.set_protocol(self)
        self._session = self._sessions.connect(session_id, self)
        self._session.outbox.extend(greeting, sum(message.size for message in greeting))
        if self._ping_interval > 0:
            self._timer = self._loop.call_later(self._ping_interval, self._keep_alive)
        self.pump()
        if early_data:
            self.data_received(early_data)

    def pump(self) -> None:
        """Send what waits in the outbox until the transport asks to pause."""
        session, transport = self._session, self._transport
        while session is not None and transport is not None and not self._is_write_paused:
            loss = session.outbox.take_loss()
            pieces = self._delivery.encode_batch(session.outbox.take(WRITE_BATCH_BYTES), loss)
            if not pieces:
                return
            _write(transport, pieces)
            self._ask_for_pong()

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and let go; a peer that does not read is cut off after a while."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._detach()
        transport.write(close_frame(code, reason))
        transport.close()
        self._timer = self._loop.call_later(CLOSE_TIMEOUT, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the peer."""
        self._last_heard = self._loop.time()
        try:
            for event in self._reader.receive(data):
                self._handle(event)
                if self._session is None:
                    return
        except FrameError as exc:
            logger.warning("closing a WebSocket: %s", exc)
            self.close(exc.code, str(exc))
        if self._backlog.is_full and self._transport is not None and not self._is_read_paused:
            self._is_read_paused = True
            self._transport.pause_reading()
            self._backlog.when_relieved(self._resume_reading)

    def pause_writing(self) -> None:
        """Leave messages in the outbox until the peer has read what is under way."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Go on sending."""
        self._is_write_paused = False
        self.pump()
        self._sessions.note_progress()

    def connection_lost(self, exc: Optional[Exception]) -> None:  # noqa: ARG002  # Protocol's
        """Let the session wait for its next connection."""
        self._detach()
        self._transport = None

    def _detach(self) -> None:
        for timer in (self._timer, self._ask_timer):
            if timer is not None:
                timer.cancel()
        session, self._session = self._session, None
        if session is not None:
            self._sessions.disconnect(session, self)

    def _resume_reading(self) -> None:
        self._is_read_paused = False
        self._last_heard = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _handle(self, event: Event) -> None:
        session, transport = self._session, self._transport
        if session is None or transport is None:
            return
        if event.kind is EventKind.PONG:
            self._acknowledge(session, event.payload)
        elif event.kind is EventKind.PING:
            transport.write(frame_header(PONG, len(event.payload)) + event.payload)
        elif event.kind is EventKind.CLOSE:
            self.close(int.from_bytes(event.payload[:2], "big") or NO_STATUS, "")
        else:
            try:
                request = decode(event.payload, self._codec)
            except DecodeError as exc:
                logger.warning("a client's message was dropped: %s", exc)
                return
            self._receive(session, request)

    def _acknowledge(self, session: Session, payload: bytes) -> None:
        is_number = len(payload) == NUMBER_BYTES
        if not is_number or not session.outbox.acknowledge(int.from_bytes(payload, "big")):
            return
        self._ask_for_pong()
        self._sessions.note_progress()

    def _ask_for_pong(self) -> None:
        """See to it that a ping covers what was sent: at once if it is much, else soon."""
        if self._session is None:
            return
        unasked_bytes = self._session.outbox.unasked_bytes
        if unasked_bytes >= ASK_BYTES:
            self._ping()
        elif unasked_bytes and self._ask_timer is None:
            self._ask_timer = self._loop.call_later(ASK_DELAY, self._ping_late)

    def _ping_late(self) -> None:
        self._ask_timer = None
        self._ping()

    def _ping(self) -> None:
        session, transport = self._session, self._transport
        if session is not None and transport is not None and session.outbox.unasked_bytes:
            transport.write(_ping_frame(session.outbox.next_ping()))

    def _keep_alive(self) -> None:
        transport = self._transport
        if transport is None or self._session is None:
            return
        silence = self._loop.time() - self._last_heard
        if silence > SILENT_INTERVALS * self._ping_interval and not self._is_read_paused:
            logger.warning("closing a WebSocket: its peer is silent")
            transport.abort()
            return
        if not self._is_write_paused:
            transport.write(KEEP_ALIVE)
        self._timer = self._loop.call_later(self._ping_interval, self._keep_alive)


def _write(transport: asyncio.Transport, pieces: Sequence[bytes]) -> None:
    """Write small pieces joined and large ones as they are.

    Views spare copies: a transport of Python up to 3.11 joins what `writelines` gets, and copies
    twice what the peer does not take of bytes at once.
    """
    start = 0
    for index, piece in enumerate(pieces):
        if len(piece) > JOIN_MAX_BYTES:
            transport.write(b"".join(pieces[start:index]))
            transport.write(memoryview(piece))
            start = index + 1
    transport.write(memoryview(b"".join(pieces[start:])))


def _ping_frame(number: int) -> bytes:
    return frame_header(PING, NUMBER_BYTES) + number.to_bytes(NUMBER_BYTES, "big")
