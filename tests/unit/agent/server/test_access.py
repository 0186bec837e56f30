"""Unit tests of the agent's access: who may connect, and what is closed when that changes."""

import pytest
from harness.waiting import eventually

from kernel_agent.server.access import (
    MAX_CHARS,
    MAX_CREDENTIALS,
    REMEMBER_SECONDS,
    Access,
    Client,
    read_client,
    read_credentials,
)
from kernel_agent.server.http import HttpError

READER = Client("rita", "c1", "g1")
WRITER = Client("walt", "c2", "g2")
SHARES = {"shares": [{"id": "g1", "access": "read"}, {"id": "g2", "access": "write"}]}


class Opened:
    """Something that a client has opened."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def revoke(self, reason: str) -> None:
        """Take note of the reason."""
        self.reasons.append(reason)


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return its time."""
        return self.now


def test_shares_decide_who_may_write() -> None:
    """A client without a share is its owner, or one that the gateway does not know."""
    access = Access(Clock())
    access.replace_grants(SHARES)
    assert access.admit(Client())
    assert access.admit(WRITER)
    assert not access.admit(READER)
    with pytest.raises(HttpError, match="not shared"):
        access.admit(Client("eve", "c3", "g3"))


async def test_connections_end_with_their_credentials() -> None:
    """Each at its own time; those that are closed before are forgotten."""
    clock = Clock()
    access = Access(clock)
    late, soon, gone, endless = Opened(), Opened(), Opened(), Opened()
    access.watch(Client("ann", "c1", valid_for=1000.0), late)
    access.watch(Client("bob", "c2", valid_for=500.0), soon)
    access.watch(Client("eve", "c3", valid_for=0.0), gone)
    access.watch(Client("dan", "c4"), endless)
    del gone
    clock.now = 500.0
    access.watch(Client("ann", "c1", valid_for=500.0), late)
    await eventually(lambda: soon.reasons)
    assert "expired" in soon.reasons[0]
    access.revoke(["c2"])
    assert (len(soon.reasons), late.reasons, endless.reasons) == (1, [], [])
    clock.now = 1000.0
    access.watch(Client("dan", "c4", valid_for=0.0), endless)
    await eventually(lambda: late.reasons and endless.reasons)


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "1" * 10, "\u0661"])
def test_life_of_a_credential_is_a_number_of_seconds(text: str) -> None:
    """Anything else is the gateway's fault, and must not open what never ends."""
    assert read_client({"valid_for": "60"}).valid_for == 60.0
    assert read_client({}).valid_for is None
    with pytest.raises(HttpError, match="valid_for"):
        read_client({"valid_for": text})


def test_share_that_goes_closes_what_it_opened() -> None:
    """And nothing else, and once."""
    access = Access(Clock())
    access.replace_grants(SHARES)
    reader, writer, owner = Opened(), Opened(), Opened()
    for client, opened in ((READER, reader), (WRITER, writer), (Client("ann", "c0"), owner)):
        access.watch(client, opened)
    for _ in range(2):
        access.replace_grants({"shares": SHARES["shares"][:1]})
    assert [len(each.reasons) for each in (reader, writer, owner)] == [0, 1, 0]
    with pytest.raises(HttpError):
        access.admit(WRITER)


def test_revoked_credential_is_refused_for_a_while() -> None:
    """For as long as a gateway may be opening a connection with it."""
    clock = Clock()
    access = Access(clock)
    access.replace_grants(SHARES)
    reader = Opened()
    access.watch(READER, reader)
    access.revoke(["c1"])
    assert len(reader.reasons) == 1
    with pytest.raises(HttpError, match="revoked"):
        access.admit(READER)
    assert access.admit(WRITER)
    clock.now = REMEMBER_SECONDS
    assert not access.admit(READER)


def test_memory_of_revoked_credentials_is_bounded() -> None:
    """The latest are kept."""
    access = Access(Clock())
    for start in (0, MAX_CREDENTIALS):
        access.revoke([f"c{number}" for number in range(start, start + MAX_CREDENTIALS)])
    assert access.admit(Client("x", "c0"))
    with pytest.raises(HttpError):
        access.admit(Client("x", f"c{MAX_CREDENTIALS}"))


def test_revocation_closes_nothing_of_a_credential_that_is_valid_again() -> None:
    """A credential revoked before is refused for a while, and then forgotten."""
    clock = Clock()
    access = Access(clock)
    access.revoke(["c1"])
    clock.now = REMEMBER_SECONDS
    again, other = Opened(), Opened()
    access.admit(Client("ann", "c1"))
    access.watch(Client("ann", "c1"), again)
    access.watch(Client("bob", "c2"), other)
    access.revoke(["c2"])
    assert (len(again.reasons), len(other.reasons)) == (0, 1)
    assert list(access._revoked) == ["c2"]


def test_what_has_ended_is_forgotten() -> None:
    """Nothing keeps the connections of clients that have left."""
    access = Access(Clock())
    for _ in range(10):
        access.watch(Client("ann", "c0"), Opened())
    assert len(access._open) <= 1


@pytest.mark.parametrize(
    "annotations",
    [{}, {"shares": 5}, {"shares": [1, None]}, {"shares": [{"id": "g1", "access": "all"}]}],
)
def test_malformed_shares_are_none(annotations: dict[str, object]) -> None:
    """A gateway writes others."""
    access = Access(Clock())
    access.replace_grants(annotations)
    with pytest.raises(HttpError):
        access.admit(READER)


@pytest.mark.parametrize(
    "body", [{}, {"credentials": "c"}, {"credentials": [1]}, {"credentials": [""]}]
)
def test_malformed_credentials_are_refused(body: dict[str, object]) -> None:
    """With 400."""
    with pytest.raises(HttpError, match="credentials"):
        read_credentials(body)


def test_long_parameters_are_refused() -> None:
    """They are remembered as long as the connection."""
    assert read_client({"user": "u" * MAX_CHARS}).user == "u" * MAX_CHARS
    with pytest.raises(HttpError, match="at most"):
        read_client({"grant": "g" * (MAX_CHARS + 1)})
