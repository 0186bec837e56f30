"""Client sessions, connected or not, and the addressing of the kernel's messages to them. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Callable, Dict, List, NamedTuple, Optional, Protocol, Sequence, Tuple

from kernel_agent.wire.cursor import Cursor
from kernel_agent.wire.entries import NO_SESSION, Entry, Loss
from kernel_agent.wire.message import STDIN, Message
from kernel_agent.wire.message_log import MessageLog
from kernel_agent.wire.peer_encoder import Peer

MAX_DISCONNECTED = 1000
"""Sessions remembered without a connection, whatever their age; each takes some hundred bytes. A
browser creates a new one with every page load."""
MAX_HEADER_SESSIONS = 1024
"""Different `header.session` values remembered for one client session."""
MAX_REQUESTS = 1024
"""Requests without a reply remembered for one client session."""
MAX_ID_CHARS = 1024
"""`header.session` and `msg_id` together; a request with longer ones gets no reply."""
SENT_AT_ONCE_BYTES = 256 * 1024
"""A message from this size on is sent before the next is appended, which may take its place."""
TAKEN_OVER = 1001
"""Close code (RFC 6455 section 7.4.1) for a connection whose session another connection uses."""


Request = Tuple[str, str]
"""`header.session` and `msg_id` of a request."""


class Connection(Protocol):
    """The WebSocket of a session.

    Attributes:
        is_silent: whether the peer has answered no ping for so long that it may be gone.
    """

    is_silent: bool

    def pump(self, *, request_ack: bool = False) -> None:
        """Send what the session is owed, as far as the peer takes it.

        With `request_ack` the peer acknowledges it at once.
        """

    def send(self, messages: Sequence[Message]) -> None:
        """Send messages that are for this connection alone, and not in the log.

        They are dropped while the peer does not read.
        """

    def close(self, code: int, reason: str) -> None:
        """Close the WebSocket."""

    def hand_over(self, code: int, reason: str) -> None:
        """Close the WebSocket once the peer has acknowledged what it was sent, or after a moment.

        It calls `ClientSessions.end_handover` then.
        """


class Replay(NamedTuple):
    """Requests whose messages a client asks for again when it connects."""

    msg_ids: Sequence[str]
    is_running: bool
    """Whether more of their messages may come."""


class ClientSession:
    """One client, across its connections.

    Attributes:
        session_id: the `session_id` of its requests; "" if it is known by its `header.session`.
        user: whose it is, "" if that is not known. Users do not share sessions.
        is_viewer: whether its client may only read; it is forgotten with its connection.
        cursor: what it is owed of the log.
        peer: the client's capabilities and limits.
        connection: its current WebSocket.
        former: a WebSocket that this one has taken over from, while acknowledgements may still
            arrive there; the current one is sent nothing of the log until then.
        header_sessions: the `header.session` values it used, oldest first.
        keys: those of its entries in the log.
        requests: its requests without a reply, oldest first.
    """

    __slots__ = (
        "connection",
        "cursor",
        "former",
        "header_sessions",
        "is_viewer",
        "keys",
        "peer",
        "requests",
        "session_id",
        "user",
    )

    def __init__(self, session_id: str, user: str, cursor: Cursor) -> None:
        self.session_id = session_id
        self.user = user
        self.is_viewer = False
        self.cursor = cursor
        self.peer = Peer()
        self.connection: Optional[Connection] = None
        self.former: Optional[Connection] = None
        self.header_sessions: Dict[str, None] = {}
        self.keys: Sequence[int] = ()
        self.requests: Dict[Request, None] = {}


class ClientSessions:
    """All client sessions of the kernel."""

    def __init__(self, log: MessageLog, make_notice: Callable[[Loss], Message]) -> None:
        """Begin without a session.

        Args:
            log: the kernel's log.
            make_notice: makes the message that tells a client of a loss.
        """
        self._log = log
        self._make_notice = make_notice
        self._last_key = 0
        self._oldest = (-1, 0)
        self._by_key: Dict[int, ClientSession] = {}
        self._connected: Dict[int, ClientSession] = {}
        self._disconnected: Dict[int, ClientSession] = {}
        self._by_session_id: Dict[Tuple[str, str], ClientSession] = {}
        """By user and `session_id`."""
        self._by_header_session: Dict[str, Dict[str, ClientSession]] = {}
        """By `header.session` and user."""
        self._by_request: Dict[Request, ClientSession] = {}
        self._listeners: List[Callable[[], None]] = []
        log.keep_while(self._is_owed)

    @property
    def connections(self) -> int:
        """How many sessions are connected to a client that answers."""
        return len(self._answering())

    @property
    def websockets(self) -> int:
        """How many sessions are connected, also to a client that does not answer."""
        return len(self._connected)

    @property
    def writers(self) -> int:
        """How many of these may do more than read."""
        return sum(not session.is_viewer for session in self._answering())

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after a client connected, disconnected, read or acknowledged messages."""
        self._listeners.append(listener)

    def notify_progress(self) -> None:
        """Call the subscribers."""
        for listener in self._listeners:
            listener()

    def connect(
        self,
        session_id: str,
        connection: Connection,
        replay: Optional[Replay] = None,
        *,
        user: str = "",
        is_viewer: bool = False,
    ) -> ClientSession:
        """Attach a connection to its session, new or not; close an earlier connection of it."""
        session = self._by_session_id.get((user, session_id))
        if session is None:
            self._last_key += 1
            cursor = Cursor(self._log, self._last_key, self._make_notice)
            session = ClientSession(session_id, user, cursor)
            self._own_keys(session)
            if session_id:
                self._by_session_id[user, session_id] = session
        elif session.connection is not None:
            self._take_over(session, session.connection)
        self._disconnected.pop(session.cursor.key, None)
        self._connected[session.cursor.key] = session
        session.connection = connection
        session.is_viewer = is_viewer
        if replay is not None:
            self._replay(session.cursor, replay)
        self.notify_progress()
        return session

    def end_handover(self, session: ClientSession, former: Connection) -> None:
        """Send a session's connection what it has not acknowledged on the former one."""
        if session.former is not former:
            return
        session.former = None
        session.cursor.rewind()
        _pump(session, request_ack=True)
        self.notify_progress()

    def disconnect(self, session: ClientSession, connection: Connection) -> None:
        """Detach a connection, unless another one has taken over already."""
        if session.connection is not connection:
            return
        self._detach(session)
        if session.is_viewer:
            self._forget(session)
        elif not session.session_id:
            self._disconnect_nameless(session)
        if len(self._disconnected) > MAX_DISCONNECTED:
            self._forget(self._one_too_many())
        self.notify_progress()

    def record_request(self, session: ClientSession, header_session: str, msg_id: str) -> bool:
        """Remember the sender of a request: its reply goes there.

        Return False if the kernel must not get it: another user's request with the same ids has no
        reply yet, and nothing would tell the two replies apart.

        Clients may share a `header.session`, which need not equal `session_id`, so replies are
        addressed by request first. A client without `session_id` that has lost its connection is
        known again by its `header.session`.
        """
        if len(header_session) + len(msg_id) > MAX_ID_CHARS:
            return True
        request = (header_session, msg_id)
        asker = self._by_request.get(request)
        if asker is not None and asker.user != session.user:
            return False
        self._by_request[request] = session
        session.requests[request] = None
        if len(session.requests) > MAX_REQUESTS:
            self._drop_request(session, next(iter(session.requests)))
        former = self._last_with(session.user, header_session)
        if former is session:
            return True
        if former is not None and _may_adopt(session, former):
            self._adopt(session, former)
        self._add_header_session(session, header_session)
        return True

    def broadcast(self, messages: Sequence[Message], *, request_ack: bool = False) -> None:
        """Append messages for all sessions, and have clients acknowledge them if asked."""
        connected = list(self._connected.values())
        # Clients share one encoded form, but no longer than this: the log does not count it.
        is_shared = len(connected) > 1
        for message in messages:
            if is_shared:
                message.wire = {}
            self._log.append(message)
            if message.size >= SENT_AT_ONCE_BYTES:
                for session in connected:
                    _pump(session, request_ack=False)
        for session in connected:
            _pump(session, request_ack=request_ack)
        if is_shared:
            for message in messages:
                message.wire = None

    def reply(self, message: Message, *, request_ack: bool = False) -> None:
        """Append a reply or an input request for the session that sent its parent."""
        request = (message.parent_session, message.parent_id)
        session = self._by_request.get(request) or self._only_one_with(message.parent_session)
        if session is None:
            self._log.append(message, NO_SESSION)
            return
        if message.channel != STDIN:
            self._drop_request(session, request)
        self._log.append(message, session.cursor.key)
        _pump(session, request_ack=request_ack)

    def is_flushed(self) -> bool:
        """Return whether every client that answers acknowledged everything."""
        return all(session.cursor.is_flushed for session in self._answering())

    def is_lagging(self) -> bool:
        """Return whether some client answers and every one that does lags."""
        is_lagging = False
        for session in self._connected.values():
            if session.connection is not None and not session.connection.is_silent:
                if not session.cursor.is_lagging:
                    return False
                is_lagging = True
        return is_lagging

    def has_room(self) -> bool:
        """Return whether a client that answers has room for large output, or none answers."""
        answering = self._answering()
        return not answering or any(session.cursor.has_room for session in answering)

    def close_all(self, code: int, reason: str) -> None:
        """Close every connection."""
        for session in list(self._connected.values()):
            if session.connection is not None:
                session.connection.close(code, reason)

    def _replay(self, cursor: Cursor, replay: Replay) -> None:
        spans = [span for span in map(self._log.find, replay.msg_ids) if span is not None]
        if spans:
            first = min(span.first for span in spans)
            last = None if replay.is_running else max(span.last for span in spans)
            cursor.replay(frozenset(replay.msg_ids), first, last)

    def _take_over(self, session: ClientSession, earlier: Connection) -> None:
        """Close a session's connection because the client has made another one.

        JupyterLab connects anew upon the status `restarting`. The acknowledgement of that status
        may arrive a little later than the new connection (Nagle's algorithm holds a pong back while
        the pong before it is on its way). Sent again, the status would have JupyterLab connect anew
        again, and show its dialog again.
        """
        may_acknowledge = session.cursor.is_ping_under_way and not earlier.is_silent
        is_awaited = may_acknowledge and session.former is None
        if is_awaited:
            session.former = earlier
        self._detach(session)
        end = earlier.hand_over if is_awaited else earlier.close
        end(TAKEN_OVER, "another connection took over")

    def _detach(self, session: ClientSession) -> None:
        session.connection = None
        if session.former is None:
            session.cursor.rewind()
        del self._connected[session.cursor.key]
        self._disconnected[session.cursor.key] = session

    def _disconnect_nameless(self, session: ClientSession) -> None:
        """Keep a session for a connection that will use, or uses already, its `header.session`."""
        last = [self._last_with(session.user, one) for one in session.header_sessions]
        for one in last:
            if one is not None and one.connection is not None and _may_adopt(one, session):
                self._adopt(one, session)
                return
        if session not in last:
            self._forget(session)

    def _one_too_many(self) -> ClientSession:
        """Return the oldest disconnected session of the user who has the most of them.

        So a user with few sessions keeps them, however many others come and go.
        """
        sessions = self._disconnected.values()
        (user, _), *_ = Counter(session.user for session in sessions).most_common(1)
        return next(session for session in sessions if session.user == user)

    def _answering(self) -> List[ClientSession]:
        return [
            session
            for session in self._connected.values()
            if session.connection is not None and not session.connection.is_silent
        ]

    def _adopt(self, session: ClientSession, former: ClientSession) -> None:
        """Give a session what a former one of the same client was owed, and forget that one."""
        session.cursor.adopt(former.cursor)
        session.peer.adopt(former.peer)
        for request in former.requests:
            if self._by_request.get(request) is former:
                self._by_request[request] = session
                session.requests[request] = None
        for header_session in former.header_sessions:
            if self._last_with(former.user, header_session) is former:
                self._add_header_session(session, header_session)
        self._forget(former)
        self._own_keys(session)
        _pump(session, request_ack=False)

    def _forget(self, session: ClientSession) -> None:
        self._disconnected.pop(session.cursor.key, None)
        self._by_session_id.pop((session.user, session.session_id), None)
        self._disown_keys(session)
        for header_session in session.header_sessions:
            self._drop_header_session(session, header_session)
        for request in list(session.requests):
            self._drop_request(session, request)

    def _is_owed(self, entry: Entry) -> bool:
        """Return whether a session has not acknowledged a reply, an input request or a status.

        It is owed the status of its own requests and that of no request.
        """
        if entry.to > 0:
            session = self._by_key.get(entry.to)
            return session is not None and session.cursor.is_owed(entry.number)
        if entry.message.parent_session:
            users = self._by_header_session.get(entry.message.parent_session, {})
            return any(session.cursor.is_owed(entry.number) for session in users.values())
        return entry.number >= self._oldest_owed()

    def _oldest_owed(self) -> int:
        """Return the number of the oldest entry that some session is owed, as of this append."""
        end = self._log.end
        if self._oldest[0] != end:
            sessions = (*self._connected.values(), *self._disconnected.values())
            oldest = min((session.cursor.oldest_owed for session in sessions), default=end)
            self._oldest = (end, oldest)
        return self._oldest[1]

    def _own_keys(self, session: ClientSession) -> None:
        """Note whose entries a session is owed; those of sessions whose place it took, too."""
        self._disown_keys(session)
        session.keys = session.cursor.keys
        for key in session.keys:
            self._by_key[key] = session

    def _disown_keys(self, session: ClientSession) -> None:
        for key in session.keys:
            if self._by_key.get(key) is session:
                del self._by_key[key]

    def _last_with(self, user: str, header_session: str) -> Optional[ClientSession]:
        """Return the session of a user that was the last to use a `header.session`."""
        return self._by_header_session.get(header_session, {}).get(user)

    def _only_one_with(self, header_session: str) -> Optional[ClientSession]:
        """Return the session that was the last to use it; None if several users have used it."""
        users = self._by_header_session.get(header_session, {})
        return next(iter(users.values())) if len(users) == 1 else None

    def _add_header_session(self, session: ClientSession, header_session: str) -> None:
        self._by_header_session.setdefault(header_session, {})[session.user] = session
        session.header_sessions[header_session] = None
        if len(session.header_sessions) > MAX_HEADER_SESSIONS:
            oldest = next(iter(session.header_sessions))
            del session.header_sessions[oldest]
            self._drop_header_session(session, oldest)

    def _drop_header_session(self, session: ClientSession, header_session: str) -> None:
        if self._last_with(session.user, header_session) is session:
            users = self._by_header_session[header_session]
            del users[session.user]
            if not users:
                del self._by_header_session[header_session]

    def _drop_request(self, session: ClientSession, request: Request) -> None:
        session.requests.pop(request, None)
        if self._by_request.get(request) is session:
            del self._by_request[request]


def _may_adopt(session: ClientSession, former: ClientSession) -> bool:
    """Return whether both, of one user, have no `session_id`, and the former no connection."""
    return not session.session_id and not former.session_id and former.connection is None


def _pump(session: ClientSession, *, request_ack: bool) -> None:
    if session.connection is not None:
        session.connection.pump(request_ack=request_ack)
