"""Client sessions: who gets which of the kernel's messages, connected or not. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from typing import Callable, Dict, List, Optional, Protocol, Sequence

from kernel_agent.message import Message
from kernel_agent.outbox import Outbox

MAX_DISCONNECTED = 32
"""Sessions kept without a connection; a browser makes a new one with every page load."""
MAX_ORIGINS = 1024
"""Different `header.session` values remembered for one client session."""
TAKEN_OVER = 1001
"""Close code (RFC 6455 section 7.4.1) for a connection whose session is used by another one."""


class Connection(Protocol):
    """What a session needs of its WebSocket."""

    def pump(self) -> None:
        """Send what waits in the outbox, as far as the peer takes it."""

    def close(self, code: int, reason: str) -> None:
        """Close the WebSocket."""


class Session:
    """One client, across its connections.

    Attributes:
        session_id: the `session_id` of its requests; "" if the session ends with its connection.
        outbox: what it has not acknowledged.
        connection: the WebSocket that it uses now.
        disconnected_at: when it lost the last one.
        origins: the `header.session` values it used, oldest first.
    """

    def __init__(self, session_id: str, outbox_max_bytes: int) -> None:
        self.session_id = session_id
        self.outbox = Outbox(outbox_max_bytes, self._is_own)
        self.connection: Optional[Connection] = None
        self.disconnected_at = 0.0
        self.origins: "OrderedDict[str, None]" = OrderedDict()

    def _is_own(self, message: Message) -> bool:
        """Whether it is about a request of this client, or about no request at all."""
        origin = message.parent_session
        return not origin or origin in self.origins


class Sessions:
    """All client sessions of the kernel."""

    def __init__(
        self, outbox_max_bytes: int, outbox_max_age: float, clock: Callable[[], float]
    ) -> None:
        self._outbox_max_bytes = outbox_max_bytes
        self._outbox_max_age = outbox_max_age
        self._clock = clock
        self._sessions: List[Session] = []
        self._by_origin: Dict[str, Session] = {}
        self._listeners: List[Callable[[], None]] = []
        self.connections = 0
        """How many sessions are connected."""

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a client took or acknowledged something, came or went."""
        self._listeners.append(listener)

    def note_progress(self) -> None:
        """Tell the subscribers."""
        for listener in self._listeners:
            listener()

    def connect(self, session_id: str, connection: Connection) -> Session:
        """Attach a connection to its session, new or not; an earlier connection of it is closed."""
        self.forget_expired()
        session = None
        if session_id:
            same = (one for one in self._sessions if one.session_id == session_id)
            session = next(same, None)
        if session is None:
            session = Session(session_id, self._outbox_max_bytes)
            self._sessions.append(session)
        elif session.connection is not None:
            earlier = session.connection
            self._detach(session)
            earlier.close(TAKEN_OVER, "another connection took over")
        session.connection = connection
        self.connections += 1
        self.note_progress()
        return session

    def disconnect(self, session: Session, connection: Connection) -> None:
        """Detach a connection; nothing happens if another one took over already."""
        if session.connection is not connection:
            return
        self._detach(session)
        if not session.session_id:
            self._forget(session)
        self.forget_expired()
        self.note_progress()

    def learn_origin(self, session: Session, header_session: str) -> None:
        """Remember that replies to this `header.session` belong to the session.

        It need not equal `session_id`: clients choose both, and some give no `session_id`.
        """
        if self._by_origin.get(header_session) is session:
            return
        self._by_origin[header_session] = session
        session.origins[header_session] = None
        if len(session.origins) > MAX_ORIGINS:
            oldest, _ = session.origins.popitem(last=False)
            self._drop_origin(session, oldest)

    def broadcast(self, messages: Sequence[Message]) -> None:
        """Give iopub messages to every session."""
        size = sum(message.size for message in messages)
        # Several clients share what is encoded for one. Not for longer: outboxes do not count it.
        is_shared = self.connections > 1
        if is_shared:
            for message in messages:
                message.wire = {}
        for session in list(self._sessions):
            _deliver(session, messages, size)
        if is_shared:
            for message in messages:
                message.wire = None

    def reply(self, message: Message) -> None:
        """Give a reply or an input request to the session that sent its parent, and only to it."""
        session = self._by_origin.get(message.parent_session)
        if session is not None:
            _deliver(session, [message], message.size)

    def is_flushed(self) -> bool:
        """Return whether every connected session acknowledged everything."""
        return not any(len(session.outbox) for session in self._connected())

    def is_lagging(self) -> bool:
        """Return whether there are connected sessions and none keeps up with large output."""
        connected = self._connected()
        return bool(connected) and all(session.outbox.is_lagging for session in connected)

    def has_room(self) -> bool:
        """Return whether a connected session can take more large output, or none is connected."""
        connected = self._connected()
        return not connected or any(session.outbox.has_room for session in connected)

    def close_all(self, code: int, reason: str) -> None:
        """Close every connection."""
        for session in self._connected():
            if session.connection is not None:
                session.connection.close(code, reason)

    def forget_expired(self) -> Optional[float]:
        """Forget sessions disconnected for too long, and the oldest if there are too many.

        Returns:
            After how many seconds the next one expires; None if none is disconnected.
        """
        idle = [session for session in self._sessions if session.connection is None]
        idle.sort(key=lambda session: session.disconnected_at)
        now = self._clock()
        while idle and (
            len(idle) > MAX_DISCONNECTED or now - idle[0].disconnected_at >= self._outbox_max_age
        ):
            self._forget(idle.pop(0))
        return idle[0].disconnected_at + self._outbox_max_age - now if idle else None

    def _detach(self, session: Session) -> None:
        session.connection = None
        session.disconnected_at = self._clock()
        session.outbox.rewind()
        self.connections -= 1

    def _connected(self) -> List[Session]:
        return [session for session in self._sessions if session.connection is not None]

    def _forget(self, session: Session) -> None:
        self._sessions.remove(session)
        for origin in session.origins:
            self._drop_origin(session, origin)

    def _drop_origin(self, session: Session, origin: str) -> None:
        if self._by_origin.get(origin) is session:
            del self._by_origin[origin]


def _deliver(session: Session, messages: Sequence[Message], size: int) -> None:
    session.outbox.extend(messages, size)
    if session.connection is not None:
        session.connection.pump()
