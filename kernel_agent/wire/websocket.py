"""The WebSocket of one client: the I/O shell around frames, codec, encoder and cursor."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Callable, NamedTuple, Optional, Sequence

from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.backlog import Backlog
from kernel_agent.wire.client_sessions import ClientSession, ClientSessions, Replay
from kernel_agent.wire.codec import JOIN_MAX_BYTES, DecodeError, Request, decode
from kernel_agent.wire.cursor import Cursor
from kernel_agent.wire.frames import (
    MESSAGE_TOO_BIG,
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
from kernel_agent.wire.handshake import Handshake
from kernel_agent.wire.message import IOPUB, Message
from kernel_agent.wire.peer_encoder import PeerEncoder

WRITE_BATCH_BYTES = 512 * 1024
WRITE_BUFFER_BYTES = 256 * 1024
READ_BYTES = 64 * 1024
CLOSE_TIMEOUT_SECONDS = 5.0
"""How long the peer may take to read buffered data before the connection is aborted."""
HANDOVER_SECONDS = 0.5
"""How long acknowledgements are awaited on a connection that another one has taken over from. Peers
delay the TCP acknowledgement that a held pong waits for by at most 0.2 s."""
SILENT_INTERVALS = 3
"""Number of ping intervals without data from the peer after which it counts as silent.

The connection stays: the network may be cut for minutes, and a client may read nothing between two
cells. TCP tells when a peer is gone (`server/listener.py`)."""
POLICY_VIOLATION = 1008
"""Close code (RFC 6455 section 7.4.1) for a client that may not be connected any more."""
KEEP_ALIVE = frame_header(PING, 4) + b"live"
NUMBER_BYTES = 8
"""Length of the payload of pings that ask for an acknowledgement."""
ACK_PING_DELAY_SECONDS = 0.05
"""Longest delay from the first message that no such ping covers to the next ping. A ping and its
pong cost as much as a message, all the way to the client; what is not acknowledged when a
connection is cut is sent again."""
ACK_PING_EARLY_SECONDS = 0.01
"""Before the end of that delay a ping leaves with a message, if there is one, which costs less."""
ACK_PING_BYTES = 256 * 1024
"""From this size on the ping follows at once, since unacknowledged messages take memory."""

_log = logging.getLogger(__name__)


class Limits(NamedTuple):
    """What a connection may carry."""

    max_message_bytes: int
    """A larger message from the client closes the connection."""
    max_output_bytes: int
    """A notice replaces a larger message to the client; 0: no limit."""
    ping_interval: float
    """Seconds between keep-alive pings; 0: none."""


class WebSocket(asyncio.Protocol):
    """The connection of one client; implements `client_sessions.Connection`.

    Attributes:
        is_silent: whether the peer has answered no ping for three intervals.
    """

    def __init__(
        self,
        *,
        handshake: Handshake,
        factory: MessageFactory,
        sessions: ClientSessions,
        backlog: Backlog,
        limits: Limits,
        receive: Callable[[ClientSession, Request], None],
        user: str = "",
        is_viewer: bool = False,
    ) -> None:
        """Prepare; `open` starts it.

        Args:
            handshake: result of the client's handshake.
            factory: makes the notices to the client.
            sessions: all client sessions.
            backlog: while it is full nothing is read from the client.
            limits: sizes of messages, and the interval of pings.
            receive: called with every well-formed message.
            user: whose it is, "" if that is not known.
            is_viewer: whether it is sent output only.
        """
        self._user = user
        self._is_viewer = is_viewer
        self._handshake = handshake
        self._factory = factory
        self._max_output_bytes = limits.max_output_bytes
        self._sessions = sessions
        self._backlog = backlog
        self._ping_interval = limits.ping_interval
        self._receive = receive
        self._reader = FrameReader(limits.max_message_bytes)
        self._loop = asyncio.get_running_loop()
        self._transport: Optional[asyncio.Transport] = None
        self._session: Optional[ClientSession] = None
        self._handed_over: Optional[ClientSession] = None
        """The session that another connection has taken over, while acknowledgements may come."""
        self._last_frame = b""
        self._encoder: Optional[PeerEncoder] = None
        self.is_silent = False
        self._last_heard = self._loop.time()
        self._timer: Optional[asyncio.TimerHandle] = None
        self._ack_ping_timer: Optional[asyncio.TimerHandle] = None
        self._scan: Optional[asyncio.Handle] = None
        self._is_write_paused = False
        self._is_read_paused = False
        self._unanswered_ping: Optional[bytes] = None

    def open(
        self,
        transport: asyncio.Transport,
        session_id: str,
        early_data: bytes,
        greeting: Message,
        replay: Optional[Replay] = None,
    ) -> None:
        """Take over an upgraded connection.

        Args:
            transport: transport of the connection.
            session_id: the client's `session_id`, "" if it gave none.
            early_data: bytes that followed the handshake.
            greeting: the kernel's state, for this client alone.
            replay: what it asks for again.
        """
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        transport.set_protocol(self)
        session = self._sessions.connect(
            session_id, self, replay, user=self._user, is_viewer=self._is_viewer
        )
        self._encoder = PeerEncoder(
            self._handshake.codec,
            max_bytes=self._handshake.max_bytes,
            max_output_bytes=self._max_output_bytes,
            peer=session.peer,
            factory=self._factory,
        )
        self._session = session
        self.send([greeting])
        if self._ping_interval > 0:
            self._timer = self._loop.call_later(self._ping_interval, self._keep_alive)
        self.pump(request_ack=True)
        if early_data:
            self.data_received(early_data)

    def pump(self, *, request_ack: bool = False) -> None:
        """Send what the session is owed until there is nothing or the transport asks to pause.

        With `request_ack` a ping leaves in the same write as the messages. In a later write it may
        come too late: a client that reconnects upon a message would get that message again.
        """
        session, transport, encoder = self._session, self._transport, self._encoder
        if session is None or transport is None or encoder is None:
            return
        if session.former is not None:
            return
        cursor = session.cursor
        while not self._is_write_paused:
            messages = taken = cursor.take(WRITE_BATCH_BYTES)
            if taken:
                if self._is_viewer:
                    messages = [one for one in messages if one.channel == IOPUB]
                pieces = encoder.encode_batch(messages)
                if request_ack or self._is_ack_due(cursor):
                    pieces.append(self._ack_ping(cursor))
                _write(transport, pieces)
            if cursor.is_at_end:
                return
            if not taken:
                if self._scan is None:
                    self._scan = self._loop.call_soon(self._continue_scan)
                return

    def send(self, messages: Sequence[Message]) -> None:
        """Send messages that are for this connection alone; drop them while the peer is slow."""
        transport, encoder = self._transport, self._encoder
        if transport is not None and encoder is not None and not self._is_write_paused:
            _write(transport, encoder.encode_batch(messages))

    def revoke(self, reason: str) -> None:
        """Close: the client may not be connected any more."""
        self.close(POLICY_VIOLATION, reason)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and detach; abort if the peer does not read it in time."""
        transport = self._transport
        if transport is None or self._session is None:
            return
        self._detach()
        self._end(transport, close_frame(code, reason))

    def hand_over(self, code: int, reason: str) -> None:
        """Detach, read the acknowledgements that are still due, then close.

        For half a second at most. The close frame is not sent before: at that some peers (tornado)
        close at once, whatever they have not sent.
        """
        transport, session = self._transport, self._session
        if transport is None or session is None:
            return
        self._detach()
        self._handed_over = session
        self._last_frame = close_frame(code, reason)
        self._timer = self._loop.call_later(HANDOVER_SECONDS, self._end_handover)

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the peer."""
        if self._handed_over is not None:
            self._read_late(self._handed_over, data)
            return
        self._last_heard = self._loop.time()
        self._set_silent(is_silent=False)
        try:
            for event in self._reader.receive(data):
                self._handle(event)
                if self._session is None:
                    return
        except FrameError as exc:
            _log.warning("closing a WebSocket: %s", exc)
            self.close(exc.code, str(exc))
        if self._backlog.is_full and self._transport is not None and not self._is_read_paused:
            self._is_read_paused = True
            self._transport.pause_reading()
            self._backlog.when_relieved(self._resume_reading)

    def pause_writing(self) -> None:
        """Send nothing more until the peer has read the buffered ones."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Resume sending."""
        self._is_write_paused = False
        if self._unanswered_ping is not None and self._transport is not None:
            self._send_pong(self._transport, self._unanswered_ping)
        self.pump()
        self._sessions.notify_progress()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Detach the session, which waits for its next connection.

        A write that fails ends a transport at once, although the peer's close frame, which gives
        the reason, may have arrived: it is read here.
        """
        if exc is not None and self._transport is not None:
            unread = _read_received(self._transport)
            if unread:
                self.data_received(unread)
        session, encoder = self._session, self._encoder
        if (
            session is not None
            and encoder is not None
            and encoder.record_break(session.cursor.unacknowledged())
        ):
            _log.warning(
                "a client's connection broke twice at the same large message: a notice replaces it"
            )
        self._detach()
        self._end_handover()
        self._transport = None

    def _read_late(self, session: ClientSession, data: bytes) -> None:
        """Read acknowledgements that arrive after another connection took over."""
        try:
            for event in self._reader.receive(data):
                if event.kind is EventKind.PONG and len(event.payload) == NUMBER_BYTES:
                    session.cursor.acknowledge(int.from_bytes(event.payload, "big"))
                if event.kind is EventKind.CLOSE or not session.cursor.is_ping_under_way:
                    self._end_handover()
                    return
        except FrameError:
            self._end_handover()

    def _end_handover(self) -> None:
        session, self._handed_over = self._handed_over, None
        transport = self._transport
        if session is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        if transport is not None:
            self._end(transport, self._last_frame)
        self._sessions.end_handover(session, self)

    def _end(self, transport: asyncio.Transport, last_frame: bytes) -> None:
        """Close a transport, unless it is closing; abort it if the peer does not read in time."""
        if transport.is_closing():
            return
        transport.write(last_frame)
        transport.close()
        self._timer = self._loop.call_later(CLOSE_TIMEOUT_SECONDS, transport.abort)

    def _continue_scan(self) -> None:
        """Go on in a part of the log in which there was nothing for this client so far."""
        self._scan = None
        self.pump()

    def _detach(self) -> None:
        for timer in (self._timer, self._ack_ping_timer, self._scan):
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
        session, transport, encoder = self._session, self._transport, self._encoder
        if session is None or transport is None or encoder is None:
            return
        if event.kind is EventKind.PONG:
            self._acknowledge(session, event.payload)
        elif event.kind is EventKind.PING:
            self._send_pong(transport, event.payload)
        elif event.kind is EventKind.CLOSE:
            code = int.from_bytes(event.payload[:2], "big")
            if code == MESSAGE_TOO_BIG:
                limit = encoder.lower_limit(session.cursor.unacknowledged())
                _log.warning(
                    "a client closed its connection because a message was too large for it; %s",
                    "a notice replaces it" if limit else "no large message was on its way",
                )
            self.close(code or NO_STATUS, "")
        else:
            if event.kind is EventKind.BINARY:
                encoder.allow_binary()
            try:
                request = decode(event.payload, self._handshake.codec)
            except DecodeError as exc:
                _log.warning("dropped a client's message: %s", exc)
                return
            self._receive(session, request)

    def _send_pong(self, transport: asyncio.Transport, payload: bytes) -> None:
        """Answer a ping; while writing is paused, keep only the latest (RFC 6455 section 5.5.3)."""
        if self._is_write_paused:
            self._unanswered_ping = payload
            return
        self._unanswered_ping = None
        transport.write(frame_header(PONG, len(payload)) + payload)

    def _acknowledge(self, session: ClientSession, payload: bytes) -> None:
        cursor = session.cursor
        is_number = len(payload) == NUMBER_BYTES
        if not is_number or not cursor.acknowledge(int.from_bytes(payload, "big")):
            return
        if self._is_ack_due(cursor):
            self._send_ack_ping()
        self._sessions.notify_progress()

    def _is_ack_due(self, cursor: Cursor) -> bool:
        """Return whether a ping is to cover the messages sent now; if not, see that one does soon.

        At once if they are large.
        """
        if not cursor.uncovered_bytes or cursor.is_ping_under_way:
            return False
        if cursor.uncovered_bytes >= ACK_PING_BYTES:
            return True
        now = self._loop.time()
        if self._ack_ping_timer is not None:
            return now > self._ack_ping_timer.when() - ACK_PING_EARLY_SECONDS
        self._ack_ping_timer = self._loop.call_at(now + ACK_PING_DELAY_SECONDS, self._send_ack_ping)
        return False

    def _ack_ping(self, cursor: Cursor) -> bytes:
        """Return a ping whose pong acknowledges all that was sent before it."""
        if self._ack_ping_timer is not None:
            self._ack_ping_timer.cancel()
            self._ack_ping_timer = None
        number = cursor.next_ping()
        return frame_header(PING, NUMBER_BYTES) + number.to_bytes(NUMBER_BYTES, "big")

    def _send_ack_ping(self) -> None:
        session, transport = self._session, self._transport
        if session is not None and transport is not None:
            transport.write(self._ack_ping(session.cursor))

    def _keep_alive(self) -> None:
        transport = self._transport
        if transport is None or self._session is None:
            return
        silence = self._loop.time() - self._last_heard
        self._set_silent(
            is_silent=silence > SILENT_INTERVALS * self._ping_interval and not self._is_read_paused
        )
        if not self._is_write_paused:
            transport.write(KEEP_ALIVE)
        self._timer = self._loop.call_later(self._ping_interval, self._keep_alive)

    def _set_silent(self, *, is_silent: bool) -> None:
        if is_silent != self.is_silent and self._session is not None:
            self.is_silent = is_silent
            self._sessions.notify_progress()


def _write(transport: asyncio.Transport, pieces: Sequence[bytes]) -> None:
    """Write small pieces joined and large ones as they are.

    Memory views avoid copies: transports of Python up to 3.11 join the pieces of `writelines`, and
    copy twice the part of a bytes object that the socket does not take at once.
    """
    start = 0
    for index, piece in enumerate(pieces):
        if len(piece) > JOIN_MAX_BYTES:
            transport.write(b"".join(pieces[start:index]))
            transport.write(memoryview(piece))
            start = index + 1
    transport.write(memoryview(b"".join(pieces[start:])))


def _read_received(transport: asyncio.Transport) -> bytes:
    """Return the bytes that a broken connection received and its transport has not read."""
    if transport.get_extra_info("sslcontext") is not None:
        return b""  # they are bytes of TLS
    connection = transport.get_extra_info("socket")
    try:
        return os.read(connection.fileno(), READ_BYTES)
    except OSError:
        return b""
