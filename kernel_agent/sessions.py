"""Client sessions: who gets which of the kernel's messages, connected or not."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Callable, Dict, List, Optional, Sequence

from kernel_agent.message import Message
from kernel_agent.outbox import Outbox

MAX_DISCONNECTED = 32
"""Sessions kept without a connection; a browser makes a new one with every page load."""
MAX_ORIGINS = 1024
"""Different `header.session` values remembered for one client session."""

logger = logging.getLogger(__name__)


class Connection:
    """What a session needs of its WebSocket."""

    def pump(self) -> None:
        """Send what waits in the outbox, as far as the peer takes it."""
        raise TypeError

    def close(self, code: int, reason: str) -> None:
        """Close the WebSocket."""
        raise TypeError


class Session:
    """One client, across its connections.

    Attributes:
        session_id: the `session_id` of its requests; "" if the session ends with its connection.
        outbox: what it has not acknowledged.
        connection: the WebSocket it uses now.
    """

    def __init__(self, session_id: str, outbox_max_bytes: int) -> None:
        self.session_id = session_id
        self.outbox = Outbox(outbox_max_bytes)
        self.connection: Optional[Connection] = None
        self.disconnected_at = 0.0
        self.origins: "OrderedDict[str, None]" = OrderedDict()


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
        self._on_flushed: Optional[Callable[[], None]] = None
        self.connections = 0
        """How many sessions are connected."""

    def connect(self, session_id: str, connection: Connection) -> Session:
        """Attach a connection to its session, new or not; an earlier connection of the session is closed."""
        self.forget_expired()
        session = next(
            (one for one in self._sessions if session_id and one.session_id == session_id), None
        )
        if session is None:
            session = Session(session_id, self._outbox_max_bytes)
            self._sessions.append(session)
        elif session.connection is not None:
            earlier = session.connection
            self.disconnect(session, earlier)
            earlier.close(1001, "another connection took over")
        session.connection = connection
        self.connections += 1
        return session

    def disconnect(self, session: Session, connection: Connection) -> None:
        """Detach a connection; nothing happens if another one took over already."""
        if session.connection is not connection:
            return
        session.connection = None
        session.disconnected_at = self._clock()
        session.outbox.rewind()
        self.connections -= 1
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
        for session in self._sessions:
            self._deliver(session, messages, size)

    def reply(self, message: Message) -> None:
        """Give a reply or an input request to the session that sent its parent; nobody else may see it."""
        session = self._by_origin.get(message.parent_session)
        if session is not None:
            self._deliver(session, [message], message.size)

    def when_flushed(self, callback: Callable[[], None]) -> None:
        """Call back once every connected session has acknowledged everything; at once if that is so now."""
        self._on_flushed = callback
        self.note_progress()

    def note_progress(self) -> None:
        """Take note that a session acknowledged something or is gone."""
        if self._on_flushed is None:
            return
        if any(len(session.outbox) for session in self._sessions if session.connection is not None):
            return
        callback, self._on_flushed = self._on_flushed, None
        callback()

    def close_all(self, code: int, reason: str) -> None:
        """Close every connection."""
        for session in list(self._sessions):
            if session.connection is not None:
                session.connection.close(code, reason)

    def forget_expired(self) -> None:
        """Forget sessions that were disconnected for too long, and the oldest if there are too many."""
        idle = [session for session in self._sessions if session.connection is None]
        idle.sort(key=lambda session: session.disconnected_at)
        deadline = self._clock() - self._outbox_max_age
        for index, session in enumerate(idle):
            if session.disconnected_at <= deadline or index < len(idle) - MAX_DISCONNECTED:
                self._forget(session)

    def _forget(self, session: Session) -> None:
        self._sessions.remove(session)
        for origin in session.origins:
            self._drop_origin(session, origin)

    def _drop_origin(self, session: Session, origin: str) -> None:
        if self._by_origin.get(origin) is session:
            del self._by_origin[origin]

    @staticmethod
    def _deliver(session: Session, messages: Sequence[Message], size: int) -> None:
        session.outbox.extend(messages, size)
        if session.connection is not None:
            session.connection.pump()
