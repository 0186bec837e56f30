"""Who gets which message, who is forgotten, and who is known again."""

import json
import sys
from collections.abc import Sequence

import pytest
from harness.agents.logs import make_log, message

from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.client_sessions import (
    MAX_DISCONNECTED,
    MAX_HEADER_SESSIONS,
    MAX_REQUESTS,
    ClientSession,
    ClientSessions,
    Replay,
)
from kernel_agent.wire.codec import Codec, encode
from kernel_agent.wire.message import IOPUB, SHELL, STDIN, Message
from kernel_agent.wire.message_log import MessageLog


class FakeConnection:
    """A connection that notes what happens to it."""

    def __init__(self) -> None:
        self.is_silent = False
        self.pumped = 0
        self.closed: list[int] = []

    def pump(self, *, request_ack: bool = False) -> None:
        """Note it."""
        assert not request_ack
        self.pumped += 1

    def close(self, code: int, reason: str) -> None:
        """Note it."""
        assert reason
        self.closed.append(code)

    def hand_over(self, code: int, reason: str) -> None:
        """Close at once."""
        self.close(code, reason)


def make_sessions(log: MessageLog | None = None) -> ClientSessions:
    """Make the sessions of a kernel without any."""
    return ClientSessions(log or make_log(10**6), MessageFactory().loss)


def disconnect(sessions: ClientSessions, session: ClientSession) -> None:
    """End a session's connection."""
    assert session.connection is not None
    sessions.disconnect(session, session.connection)


def received(session: ClientSession) -> list[Message]:
    """Take what a session is owed, as its connection does."""
    taken: list[Message] = []
    while not session.cursor.is_at_end:
        taken += session.cursor.take(10_000)
    return taken


def acknowledge(session: ClientSession) -> None:
    """Have a client acknowledge what it was sent."""
    assert session.cursor.acknowledge(session.cursor.next_ping())


def all_sessions(sessions: ClientSessions) -> list[ClientSession]:
    """Return all sessions that are remembered."""
    return [*sessions._connected.values(), *sessions._disconnected.values()]


def test_disconnected_sessions_are_forgotten_when_they_are_too_many() -> None:
    """The one that lost its connection first goes first."""
    sessions = make_sessions()
    connected = sessions.connect("connected", FakeConnection())
    for index in range(MAX_DISCONNECTED + 5):
        disconnect(sessions, sessions.connect(f"s{index}", FakeConnection()))
    left = [session.session_id for session in all_sessions(sessions)]
    assert left == ["connected", *(f"s{index}" for index in range(5, MAX_DISCONNECTED + 5))]
    assert len(sessions._by_session_id) == len(sessions._by_key) == MAX_DISCONNECTED + 1
    assert sessions.connect("connected", FakeConnection()) is connected


def test_user_who_leaves_many_sessions_forgets_their_own() -> None:
    """Not the one with which another user comes back, also when that one is the oldest."""
    sessions = make_sessions()
    owned = sessions.connect("own", FakeConnection(), user="ann")
    disconnect(sessions, owned)
    for index in range(MAX_DISCONNECTED + 5):
        disconnect(sessions, sessions.connect(f"s{index}", FakeConnection(), user="bob"))
    later = sessions.connect("later", FakeConnection(), user="ann")
    disconnect(sessions, later)
    left = all_sessions(sessions)
    assert len(left) == MAX_DISCONNECTED
    assert [session for session in left if session.user == "ann"] == [owned, later]
    assert left[-2].session_id == f"s{MAX_DISCONNECTED + 4}"


def test_session_of_a_viewer_is_forgotten_with_its_connection() -> None:
    """Unless another connection has taken over, or its user may write since."""
    sessions = make_sessions()
    viewer = sessions.connect("v", FakeConnection(), user="rita", is_viewer=True)
    assert (sessions.connections, sessions.writers) == (1, 0)
    assert sessions.connect("v", FakeConnection(), user="rita", is_viewer=True) is viewer
    disconnect(sessions, viewer)
    assert all_sessions(sessions) == []
    assert not sessions._by_session_id
    assert not sessions._by_key
    viewer = sessions.connect("v", FakeConnection(), user="rita", is_viewer=True)
    assert sessions.connect("v", FakeConnection(), user="rita") is viewer
    assert sessions.writers == 1
    disconnect(sessions, viewer)
    assert all_sessions(sessions) == [viewer]


def test_session_without_a_connection_takes_some_hundred_bytes() -> None:
    """Whatever the kernel prints meanwhile."""
    sessions = make_sessions()
    session = sessions.connect("s" * 36, FakeConnection())
    sessions.record_request(session, "h" * 36, "m" * 36)
    sessions.reply(reply_to("h" * 36, "m" * 36))
    received(session)
    acknowledge(session)
    disconnect(sessions, session)
    for _ in range(1000):
        sessions.broadcast([message("stream", 10)])
    seen: set[int] = set()

    def size(thing: object) -> int:
        if id(thing) in seen or thing is sessions._log or callable(thing):
            return 0
        seen.add(id(thing))
        slots = getattr(thing, "__slots__", ())
        inner = [getattr(thing, name) for name in slots] if slots != () else []
        if isinstance(thing, dict):
            inner += [*thing, *thing.values()]
        elif isinstance(thing, (list, tuple)):
            inner += thing
        return sys.getsizeof(thing) + sum(map(size, inner))

    assert size(session) < 2500


def reply_to(header_session: str, msg_id: str, channel: bytes = SHELL) -> Message:
    """Make a reply to a request."""
    parent = json.dumps({"session": header_session, "msg_id": msg_id}).encode()
    return Message(channel, [b"{}", parent, b"{}", b"{}"])


@pytest.mark.parametrize("header_session", ["", "shared", "ünïcode"])
def test_reply_goes_to_the_connection_that_asked(header_session: str) -> None:
    """Clients with the same `header.session` get their own replies, in whatever order they come."""
    sessions = make_sessions()
    first = sessions.connect("1", FakeConnection())
    second = sessions.connect("", FakeConnection())
    sessions.record_request(first, header_session, "a")
    sessions.record_request(second, header_session, "b")
    sessions.reply(reply_to(header_session, "a", STDIN))
    sessions.reply(reply_to(header_session, "a"))
    assert (len(received(first)), len(received(second))) == (2, 0)
    sessions.reply(reply_to(header_session, "b"))
    assert (len(received(first)), len(received(second))) == (0, 1)
    assert not sessions._by_request


def test_reply_without_a_client_stands_in_the_log() -> None:
    """No session is sent it; a client that asks for its request finds it."""
    log = make_log(10**6)
    sessions = make_sessions(log)
    session = sessions.connect("1", FakeConnection())
    sessions.reply(reply_to("unknown", "a"))
    assert received(session) == []
    assert log.find("a") is not None


def test_client_without_session_id_is_known_by_its_header_session() -> None:
    """What it was owed, and the replies to its requests, come to its next connection."""
    sessions = make_sessions()
    first = sessions.connect("", FakeConnection())
    sessions.record_request(first, "h", "a")
    sessions.broadcast([message("stream", 1)])
    assert len(received(first)) == 1
    disconnect(sessions, first)
    sessions.broadcast([message("stream", 2)])
    second = sessions.connect("", FakeConnection())
    sessions.broadcast([message("stream", 3)])
    assert [len(one.parts[3]) for one in received(second)] == [3]
    sessions.reply(reply_to("h", "a"))
    assert received(second) == []
    sessions.record_request(second, "h", "b")
    taken = received(second)
    assert [len(one.parts[3]) for one in taken] == [1, 2, 2]
    assert taken[-1].channel == SHELL
    sessions.reply(reply_to("h", "b"))
    assert len(received(second)) == 1
    assert all_sessions(sessions) == [second]


def test_limits_of_a_nameless_client_are_known_on_its_next_connection() -> None:
    """A message that it refused does not come again and again."""
    sessions = make_sessions()
    first = sessions.connect("", FakeConnection())
    sessions.record_request(first, "h", "a")
    first.peer.max_bytes = 5000
    first.peer.has_refused = True
    first.peer.suspect = b"header"
    disconnect(sessions, first)
    second = sessions.connect("", FakeConnection())
    sessions.record_request(second, "h", "b")
    assert (second.peer.max_bytes, second.peer.has_refused) == (5000, True)
    assert second.peer.suspect == b"header"


def test_client_whose_former_connection_is_noticed_late_gets_its_part() -> None:
    """It uses its `header.session` on the new one before the old one has ended."""
    sessions = make_sessions()
    first = sessions.connect("", FakeConnection())
    sessions.record_request(first, "h", "a")
    sessions.broadcast([message("stream", 1)])
    second = sessions.connect("", FakeConnection())
    sessions.record_request(second, "h", "b")
    assert received(second) == []
    sessions.reply(reply_to("h", "a"))
    disconnect(sessions, first)
    assert [one.channel for one in received(second)] == [IOPUB, SHELL]
    assert all_sessions(sessions) == [second]


def test_clients_that_share_a_name_keep_their_own_connections() -> None:
    """What one was sent and acknowledged does not come to the other when it ends."""
    sessions = make_sessions()
    first = sessions.connect("", FakeConnection())
    sessions.record_request(first, "h", "a")
    second = sessions.connect("", FakeConnection())
    sessions.record_request(second, "h", "b")
    sessions.broadcast([message("stream", 1)])
    for one in (first, second):
        assert len(received(one)) == 1
    disconnect(sessions, first)
    assert received(second) == []


def test_session_with_an_id_is_never_taken_by_its_header_session() -> None:
    """Its client comes back by the id."""
    sessions = make_sessions()
    first = sessions.connect("1", FakeConnection())
    sessions.record_request(first, "h", "a")
    sessions.broadcast([message("stream", 1)])
    disconnect(sessions, first)
    second = sessions.connect("", FakeConnection())
    sessions.record_request(second, "h", "b")
    assert received(second) == []
    assert sessions.connect("1", FakeConnection()) is first
    assert len(received(first)) == 1


def test_nameless_client_that_never_said_anything_is_forgotten() -> None:
    """Nothing could tell that it is back."""
    sessions = make_sessions()
    disconnect(sessions, sessions.connect("", FakeConnection()))
    assert all_sessions(sessions) == []
    assert not sessions._by_key


def test_replay_is_of_the_requests_that_are_asked_for() -> None:
    """Of all that run, or of one; of an unknown one there is nothing."""
    sessions = make_sessions()
    for parent in ("a", "b", "a", "c"):
        sessions.broadcast([message("stream", 1, parent=parent)])
    asked: Sequence[tuple[Replay, list[str]]] = (
        (Replay(["a", "b"], is_running=True), ["a", "b", "a"]),
        (Replay(["c"], is_running=False), ["c"]),
        (Replay(["unknown"], is_running=False), []),
        (Replay([], is_running=True), []),
    )
    for replay, expected in asked:
        session = sessions.connect("", FakeConnection(), replay)
        assert [one.parent_id for one in received(session)] == expected


def test_what_is_remembered_of_requests_is_bounded() -> None:
    """Neither their number nor the length of their ids takes memory without end."""
    sessions = make_sessions()
    session = sessions.connect("1", FakeConnection())
    for index in range(MAX_HEADER_SESSIONS + MAX_REQUESTS):
        sessions.record_request(session, f"h{index}", "m")
    sessions.record_request(session, "h", "m" * 10**6)
    sessions.reply(reply_to("unknown", "m"))
    assert len(session.header_sessions) == len(sessions._by_header_session) == MAX_HEADER_SESSIONS
    assert len(session.requests) == len(sessions._by_request) == MAX_REQUESTS
    disconnect(sessions, session)
    for index in range(MAX_DISCONNECTED):
        disconnect(sessions, sessions.connect(f"s{index}", FakeConnection()))
    assert not sessions._by_header_session
    assert not sessions._by_request


def test_second_connection_takes_its_session_over() -> None:
    """The first is closed; what comes is sent once."""
    sessions = make_sessions()
    first = FakeConnection()
    sessions.connect("1", first)
    session = sessions.connect("1", FakeConnection())
    sessions.broadcast([Message(IOPUB, [b"{}"] * 4)])
    assert len(first.closed) == 1
    assert len(received(session)) == 1
    assert sessions.connections == 1


def test_large_message_is_sent_before_the_next_takes_its_place() -> None:
    """Also if both were read from the kernel at once, and the log has room for neither."""
    sessions = make_sessions(make_log(100_000))
    taken: list[Message] = []

    class Reading(FakeConnection):
        def pump(self, *, request_ack: bool = False) -> None:
            assert not request_ack
            taken.extend(received(session))

    session = sessions.connect("s", FakeConnection())
    session.connection = Reading()
    large, small = message("stream", 300_000), message("status")
    sessions.broadcast([large, small])
    assert taken == [large, small]


def test_clients_share_what_is_encoded_while_they_are_served_only() -> None:
    """Encoded once for all who are connected, and not kept for those who are not."""
    sessions = make_sessions()
    message = Message(IOPUB, [b"{}"] * 4)
    seen: list[Sequence[bytes]] = []

    class Encoding(FakeConnection):
        def pump(self, *, request_ack: bool = False) -> None:
            assert not request_ack
            seen.append(encode(message, Codec.V1))

    sessions.connect("1", Encoding())
    sessions.connect("2", Encoding())
    sessions.broadcast([message])
    assert seen[0] is seen[1]
    assert message.wire is None


def test_full_log_keeps_what_a_client_is_owed_and_no_more() -> None:
    """Its replies and the status of its requests; of others' statuses the newest."""
    log = make_log(40_000)
    sessions = make_sessions(log)
    session = sessions.connect("1", FakeConnection())
    sessions.record_request(session, "mine", "1")
    own, other = b'{"session":"mine"}', b'{"session":"other"}'
    header = b'{"msg_type":"status"}'
    statuses = [Message(IOPUB, [header, parent, b"{}", b"{}"]) for parent in (own, other, b"{}")]
    sessions.broadcast([*statuses, statuses[1]])
    sessions.reply(reply_to("mine", "1"))
    for _ in range(100):
        sessions.broadcast([message("stream", 1000)])
    left = [entry.number for entry in log.read(0, 3000)]
    assert left[:4] == [0, 2, 3, 4]
    received(session)
    acknowledge(session)
    log.expire()
    assert [entry.number for entry in log.read(0, 1)] == [3]


@pytest.mark.parametrize("channel", [SHELL, STDIN])
def test_repeated_ids_do_not_get_the_reply_of_another_user(channel: bytes) -> None:
    """The request is refused as long as the first has no reply; whose that is decides nothing."""
    sessions = make_sessions()
    ann = sessions.connect("1", FakeConnection(), user="ann")
    bob = sessions.connect("2", FakeConnection(), user="bob")
    assert sessions.record_request(ann, "h", "a")
    assert not sessions.record_request(bob, "h", "a")
    sessions.reply(reply_to("h", "a", channel))
    assert (len(received(ann)), len(received(bob))) == (1, 0)
    if channel == STDIN:
        sessions.reply(reply_to("h", "a"))
    assert sessions.record_request(bob, "h", "a")
    sessions.reply(reply_to("h", "a"))
    assert len(received(bob)) == 1


def test_reply_to_a_forgotten_request_goes_to_no_other_user() -> None:
    """To the `header.session` while one user has used it; of several to none of them."""
    sessions = make_sessions()
    ann = sessions.connect("1", FakeConnection(), user="ann")
    sessions.record_request(ann, "h", "a")
    sessions.reply(reply_to("h", "forgotten"))
    assert len(received(ann)) == 1
    bob = sessions.connect("2", FakeConnection(), user="bob")
    sessions.record_request(bob, "h", "b")
    sessions.reply(reply_to("h", "forgotten"))
    assert received(ann) == received(bob) == []


def test_nameless_session_outlives_another_user_with_its_header_session() -> None:
    """It waits for its own client, and has the replies that came meanwhile."""
    sessions = make_sessions()
    ann = sessions.connect("", FakeConnection(), user="ann")
    sessions.record_request(ann, "h", "a")
    bob = sessions.connect("", FakeConnection(), user="bob")
    sessions.record_request(bob, "h", "b")
    disconnect(sessions, ann)
    sessions.reply(reply_to("h", "a"))
    again = sessions.connect("", FakeConnection(), user="ann")
    sessions.record_request(again, "h", "c")
    assert (len(received(again)), len(received(bob))) == (1, 0)


def test_users_do_not_share_sessions() -> None:
    """One takes over from another neither by its `session_id` nor by its `header.session`."""
    sessions = make_sessions()
    connection = FakeConnection()
    ann = sessions.connect("1", connection, user="ann")
    bob = sessions.connect("1", FakeConnection(), user="bob")
    assert bob is not ann
    assert ann.connection is connection
    assert sessions.connect("1", FakeConnection(), user="ann") is ann
    nameless = sessions.connect("", FakeConnection(), user="ann")
    sessions.record_request(nameless, "h", "a")
    sessions.broadcast([message("stream", 1)])
    disconnect(sessions, nameless)
    thief = sessions.connect("", FakeConnection(), user="bob")
    sessions.record_request(thief, "h", "b")
    assert received(thief) == []
