"""Decides which replica gets a path when several create a session for it at once. Pure.

As in Lamport's bakery algorithm: a replica writes its claim to the path first, and reads the other
claims after that, so of two replicas at least the later one sees the other's claim. A claim becomes
a session once no other is left: younger claims are withdrawn, and all claims if there is a session
already.
"""

from collections.abc import Sequence
from enum import Enum, auto

from enterprise_gateway.services.sessions.annotations import Session

STALE_SECONDS = 30.0
"""The age at which a claim is taken to be that of a replica that has died."""


class Decision(Enum):
    """A replica's decision about its claim."""

    ESTABLISH = auto()
    """There is no other claim: make it a session."""
    WAIT = auto()
    """The other claims will be withdrawn, or become sessions if their replicas saw none before."""
    WITHDRAW = auto()
    """Another replica has the path, or will have it."""


def decide_claim(claim: Session, others: Sequence[Session]) -> Decision:
    """Decide about a claim.

    Args:
        claim: the claim, with `claimed` set.
        others: sessions and claims of the same path.
    """
    if not others:
        return Decision.ESTABLISH
    is_first = all(other.claimed and _order(claim) < _order(other) for other in others)
    return Decision.WAIT if is_first else Decision.WITHDRAW


def holds_path(session: Session, now: float) -> bool:
    """Say whether a session or claim keeps other claims from its path.

    Args:
        session: the session or claim.
        now: seconds since the epoch.
    """
    return not session.claimed or now - session.claimed < STALE_SECONDS


def _order(claim: Session) -> tuple[float, str]:
    return claim.claimed, claim.id
