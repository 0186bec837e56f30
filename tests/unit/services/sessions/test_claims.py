"""Decisions about claims to a path."""

import itertools

import pytest

from enterprise_gateway.services.sessions.annotations import Session
from enterprise_gateway.services.sessions.claims import Decision, decide_claim, holds_path


def claim(session_id: str, when: float) -> Session:
    """Return a claim to the path in question."""
    return Session(session_id, "a.ipynb", claimed=when)


SESSION = Session("s", "a.ipynb")


@pytest.mark.parametrize(
    ("others", "decision"),
    [
        ([], Decision.ESTABLISH),
        ([SESSION], Decision.WITHDRAW),
        ([claim("x", 1.0)], Decision.WITHDRAW),
        ([claim("x", 3.0)], Decision.WAIT),
        ([claim("a", 2.0)], Decision.WITHDRAW),
        ([claim("z", 2.0)], Decision.WAIT),
        ([claim("z", 3.0), SESSION], Decision.WITHDRAW),
    ],
)
def test_oldest_claim_waits_and_all_others_give_way(
    others: list[Session], decision: Decision
) -> None:
    """An existing session has the path."""
    assert decide_claim(claim("m", 2.0), others) is decision


def look(mine: Session, stored: dict[str, Session]) -> bool:
    """Do one step of a claim's replica; return whether it has finished."""
    decision = decide_claim(mine, [other for other in stored.values() if other.id != mine.id])
    if decision is Decision.ESTABLISH:
        stored[mine.id] = Session(mine.id, mine.path)
    if decision is Decision.WITHDRAW:
        del stored[mine.id]
    return decision is not Decision.WAIT


@pytest.mark.parametrize("order", sorted(set(itertools.permutations("aabb"))), ids="".join)
def test_claims_at_once_become_one_session_in_every_order(order: tuple[str, ...]) -> None:
    """Two replicas write, then read; in every order one session is left."""
    claims = {"a": claim("a", 1.0), "b": claim("b", 2.0)}
    stored: dict[str, Session] = {}
    waiting = set()
    for each in order:
        if each not in stored:
            stored[each] = claims[each]
        elif not look(claims[each], stored):
            waiting.add(each)
    for each in waiting:  # at most one: only the first waits
        assert look(claims[each], stored)
    assert [one.claimed for one in stored.values()] == [0.0]


def test_only_young_claims_hold_their_path() -> None:
    """A replica that died does not keep others from the path for ever."""
    assert holds_path(claim("a", 100.0), 101.0)
    assert not holds_path(claim("a", 100.0), 200.0)
    assert holds_path(SESSION, 1e9)
