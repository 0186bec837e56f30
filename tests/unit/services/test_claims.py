"""Who has a path."""

import itertools

import pytest

from enterprise_gateway.services.sessions.annotations import Session
from enterprise_gateway.services.sessions.claims import Verdict, counts, judge


def claim(session_id: str, when: float) -> Session:
    """Return a claim to the path in question."""
    return Session(session_id, "a.ipynb", claimed=when)


SETTLED = Session("s", "a.ipynb")


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ([], Verdict.SETTLE),
        ([SETTLED], Verdict.WITHDRAW),
        ([claim("x", 1.0)], Verdict.WITHDRAW),
        ([claim("x", 3.0)], Verdict.WAIT),
        ([claim("a", 2.0)], Verdict.WITHDRAW),
        ([claim("z", 2.0)], Verdict.WAIT),
        ([claim("z", 3.0), SETTLED], Verdict.WITHDRAW),
    ],
)
def test_oldest_claim_waits_and_all_others_give_way(
    others: list[Session], verdict: Verdict
) -> None:
    """What is a session already has the path."""
    assert judge(claim("m", 2.0), others) is verdict


def look(mine: Session, stored: dict[str, Session]) -> bool:
    """Do once what the maker of a claim does; whether it has come to its end."""
    verdict = judge(mine, [other for other in stored.values() if other.id != mine.id])
    if verdict is Verdict.SETTLE:
        stored[mine.id] = Session(mine.id, mine.path)
    if verdict is Verdict.WITHDRAW:
        del stored[mine.id]
    return verdict is not Verdict.WAIT


@pytest.mark.parametrize("order", sorted(set(itertools.permutations("aabb"))), ids="".join)
def test_claims_at_once_become_one_session_in_every_order(order: tuple[str, ...]) -> None:
    """Two gateway processes write, then look; whatever comes first, one session is left."""
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


def test_only_young_claims_count() -> None:
    """One of a gateway process that died keeps nobody from the path for ever."""
    assert counts(claim("a", 100.0), 101.0)
    assert not counts(claim("a", 100.0), 200.0)
    assert counts(SETTLED, 1e9)
