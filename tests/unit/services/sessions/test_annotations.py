"""Sessions in annotations."""

from typing import Any

import msgspec
import pytest

from enterprise_gateway.services.kernels.planning.agent_credentials import derive_agent_token
from enterprise_gateway.services.sessions.annotations import (
    Session,
    SessionStore,
    derive_session_key,
)

SECRET = b"0123456789abcdef0123456789abcdef"
KERNEL_ID = "2b7e1516-28ae-4d2a-abf7-158809cf4f3c"
FIRST = Session("1", "a.ipynb", "a", "notebook")
SECOND = Session("2", "b.ipynb", "b", "notebook")
STORE = SessionStore(SECRET, KERNEL_ID)


def raw(document: object) -> msgspec.Raw:
    """Return a document as an agent stores it."""
    return msgspec.Raw(msgspec.json.encode(document))


def stored(*sessions: Session) -> dict[str, Any]:
    """Return the annotations of a kernel with these sessions."""
    document: msgspec.Raw = raw({})
    for session in sessions:
        document = raw(STORE.with_session(session, document))
    decoded: dict[str, Any] = msgspec.json.decode(document)
    return decoded


def names(sessions: list[Session]) -> list[Session]:
    """Return sessions as they were before they were authenticated."""
    return [msgspec.structs.replace(session, mac="") for session in sessions]


def test_sessions_are_added_replaced_and_removed() -> None:
    """The list has one entry an id."""
    document = raw(stored(FIRST, SECOND))
    assert names(STORE.sessions_in(document)) == [FIRST, SECOND]
    renamed = Session("1", "c.ipynb", "c", "notebook")
    again = raw(STORE.with_session(renamed, document))
    assert names(STORE.sessions_in(again)) == [SECOND, renamed]
    fewer = raw(STORE.without_session("1", document))
    assert names(STORE.sessions_in(fewer)) == [SECOND]


def test_agent_cannot_give_a_session_to_another_user() -> None:
    """Neither that of its owner to another one, nor the other way round."""
    guests = msgspec.structs.replace(SECOND, user="bob")
    document = stored(FIRST, guests)
    assert names(STORE.sessions_in(raw(document))) == [FIRST, guests]
    document["sessions"][0]["user"] = "bob"
    del document["sessions"][1]["user"]
    assert STORE.sessions_in(raw(document)) == []


def test_other_annotations_stay() -> None:
    """Whatever else is in the document is kept."""
    original = raw({"claimed_by": "ann", "deep": {"a": [1, None]}})
    kept = msgspec.json.decode(raw(STORE.with_session(FIRST, original)))
    assert kept["claimed_by"] == "ann"
    assert kept["deep"] == {"a": [1, None]}
    assert msgspec.json.decode(raw(STORE.without_session("1", original)))["sessions"] == []


def test_no_annotations_are_no_sessions() -> None:
    """An empty document holds none."""
    assert STORE.sessions_in(raw({})) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", "/home/victim/secret.ipynb"),
        ("id", "3"),
        ("name", "b"),
        ("type", "console"),
        ("claimed", 1.5),
        ("mac", ""),
        ("mac", "é"),
        ("mac", "0" * 64),
    ],
)
def test_session_that_was_changed_is_none(field: str, value: object) -> None:
    """All of a session is authenticated."""
    document = stored(FIRST)
    document["sessions"][0][field] = value
    assert STORE.sessions_in(raw(document)) == []


def test_claim_does_not_become_a_session() -> None:
    """The time of a claim is authenticated, so an agent cannot extend it."""
    document = stored(Session("1", "a.ipynb", claimed=1790000000.123456))
    assert len(STORE.sessions_in(raw(document))) == 1
    del document["sessions"][0]["claimed"]
    assert STORE.sessions_in(raw(document)) == []


def test_session_of_another_kernel_is_none() -> None:
    """An agent that learnt another kernel's session gains nothing by it."""
    other = SessionStore(SECRET, "00000000-0000-4000-8000-000000000000")
    assert other.sessions_in(raw(stored(FIRST))) == []


@pytest.mark.parametrize(
    "document",
    [
        b'{"sessions": 5}',
        b'{"sessions": {"id": "1"}}',
        b'{"sessions": [7]}',
        b'{"sessions": [{"id": 1, "path": 2}]}',
        b'{"sessions": [{"id": "1", "path": "' + b"x" * 5000 + b'"}]}',
        b'{"sessions": [{"id": "1", "path": "a", "claimed": NaN}]}',
        b'{"sessions": ' + b"[" * 100_000 + b"}",
        b"[1, 2]",
        b"\xff",
        b"",
    ],
)
def test_malformed_annotations_are_no_sessions(document: bytes) -> None:
    """Nor do they keep a session from being written."""
    assert STORE.sessions_in(msgspec.Raw(document)) == []
    written = raw(STORE.with_session(FIRST, msgspec.Raw(document)))
    assert names(STORE.sessions_in(written)) == [FIRST]


def test_no_agent_knows_the_key() -> None:
    """It is neither the token of an agent, nor does it tell the secret."""
    key = derive_session_key(SECRET)
    assert key not in {SECRET, bytes.fromhex(derive_agent_token(SECRET, KERNEL_ID))}
