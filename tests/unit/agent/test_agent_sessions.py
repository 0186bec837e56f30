"""Who gets which message, and who is forgotten."""

from collections.abc import Sequence

from kernel_agent.codec import Codec, encode
from kernel_agent.message import IOPUB, SHELL, Message
from kernel_agent.sessions import MAX_DISCONNECTED, MAX_ORIGINS, Sessions


class FakeConnection:
    """A connection that notes what happens to it."""

    def __init__(self) -> None:
        self.pumped = 0
        self.closed: list[int] = []

    def pump(self) -> None:
        """Note it."""
        self.pumped += 1

    def close(self, code: int, reason: str) -> None:
        """Note it."""
        assert reason
        self.closed.append(code)


def test_disconnected_sessions_are_forgotten_by_age_and_number() -> None:
    """Neither an old session nor more than a few stay."""
    now = 0.0
    sessions = Sessions(1000, 60.0, lambda: now)
    for index in range(MAX_DISCONNECTED + 5):
        connection = FakeConnection()
        sessions.disconnect(sessions.connect(f"s{index}", connection), connection)
    assert len(sessions._sessions) == MAX_DISCONNECTED
    assert sessions.forget_expired() == 60.0
    now = 60.0
    assert sessions.forget_expired() is None
    assert sessions._sessions == []


def test_replies_follow_the_latest_origin_and_memory_is_bounded() -> None:
    """The session that used a `header.session` last gets its replies."""
    sessions = Sessions(10**6, 60.0, lambda: 0.0)
    first = sessions.connect("1", FakeConnection())
    second = sessions.connect("2", FakeConnection())
    sessions.learn_origin(first, "h")
    sessions.learn_origin(second, "h")
    reply = Message(SHELL, [b"{}", b'{"session":"h"}', b"{}", b"{}"])
    sessions.reply(reply)
    assert (len(first.outbox), len(second.outbox)) == (0, 1)
    sessions.reply(Message(SHELL, [b"{}", b'{"session":"unknown"}', b"{}", b"{}"]))
    for index in range(MAX_ORIGINS + 10):
        sessions.learn_origin(second, f"h{index}")
    assert len(second.origins) == MAX_ORIGINS
    assert len(sessions._by_origin) <= MAX_ORIGINS


def test_session_taken_over_is_kept_whatever_its_age() -> None:
    """It is not disconnected in between, even if disconnected sessions are forgotten at once."""
    sessions = Sessions(10**6, 0.0, lambda: 0.0)
    first = FakeConnection()
    sessions.connect("1", first)
    session = sessions.connect("1", FakeConnection())
    sessions.broadcast([Message(IOPUB, [b"{}"] * 4)])
    assert len(first.closed) == 1
    assert len(session.outbox) == 1
    assert sessions.connections == 1


def test_clients_share_what_is_encoded_while_they_are_served_only() -> None:
    """Encoded once for all who are connected, and not kept for those who are not."""
    sessions = Sessions(10**6, 60.0, lambda: 0.0)
    message = Message(IOPUB, [b"{}"] * 4)
    seen: list[Sequence[bytes]] = []

    class Encoding(FakeConnection):
        def pump(self) -> None:
            seen.append(encode(message, Codec.V1))

    sessions.connect("1", Encoding())
    sessions.connect("2", Encoding())
    sessions.broadcast([message])
    assert seen[0] is seen[1]
    assert message.wire is None


def test_full_outbox_tells_the_clients_own_status_from_others() -> None:
    """The status of its requests stays, that of others' goes but for the newest."""
    sessions = Sessions(20_000, 60.0, lambda: 0.0)
    session = sessions.connect("1", FakeConnection())
    sessions.learn_origin(session, "mine")
    own, other = b'{"session":"mine"}', b'{"session":"other"}'
    header = b'{"msg_type":"status"}'
    for parent in (own, *[other] * 200):
        sessions.broadcast([Message(IOPUB, [header, parent, b"{}", b"{}"])])
    assert session.outbox.size <= 20_000
    assert next(iter(session.outbox.take(1))).parts[1] == own
