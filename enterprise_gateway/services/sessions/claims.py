"""Who has a path when several gateway processes make a session of it at once: pure decisions.

As in Lamport's bakery: whoever wants a path writes a claim first, and looks for other claims after
that, so of two at least the later one sees the other. A claim becomes a session once nobody else is
left: the younger ones give way, and everybody gives way to what is a session already.
"""

from collections.abc import Sequence
from enum import Enum, auto

from enterprise_gateway.services.sessions.annotations import Session

STALE_SECONDS = 30.0
"""A claim of that age is of a gateway process that has died."""


class Verdict(Enum):
    """What to do with a claim."""

    SETTLE = auto()
    """Nobody else wants the path: make it a session."""
    WAIT = auto()
    """Others will give way, unless they have not seen this claim; then they become sessions."""
    WITHDRAW = auto()
    """Somebody else has the path, or will have it."""


def judge(claim: Session, others: Sequence[Session]) -> Verdict:
    """Decide about a claim.

    Args:
        claim: it; `claimed` is set.
        others: sessions and claims of the same path.
    """
    if not others:
        return Verdict.SETTLE
    is_first = all(other.claimed and _order(claim) < _order(other) for other in others)
    return Verdict.WAIT if is_first else Verdict.WITHDRAW


def counts(session: Session, now: float) -> bool:
    """Say whether a session or claim keeps others from its path.

    Args:
        session: it.
        now: seconds since the epoch.
    """
    return not session.claimed or now - session.claimed < STALE_SECONDS


def _order(claim: Session) -> tuple[float, str]:
    return claim.claimed, claim.id
