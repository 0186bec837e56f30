"""Unit tests of shares in annotations: only a gateway's, for this kernel and owner, count."""

import msgspec
import pytest

from enterprise_gateway.services.kernels.access.rights import Right, decide_right
from enterprise_gateway.services.kernels.access.shares import (
    Access,
    Grant,
    GrantStore,
    Share,
    best_grant,
)
from enterprise_gateway.services.users import User

SECRET = b"s" * 32
STORE = GrantStore(SECRET, "k1", "ann")
READ_BOB = Share(Access.READ, user="bob")
WRITE_TEAM = Share(Access.WRITE, group="team")


def write(*shares: Share, document: bytes = b"{}", store: GrantStore = STORE) -> msgspec.Raw:
    """Return annotations with these shares."""
    return msgspec.Raw(msgspec.json.encode(store.with_shares(shares, msgspec.Raw(document))))


def test_shares_are_read_as_written_and_other_keys_stay() -> None:
    """Sessions live in the same document."""
    document = write(READ_BOB, WRITE_TEAM, document=b'{"sessions": [1], "x": {"y": 2}}')
    assert [grant.share for grant in STORE.grants_in(document)] == [READ_BOB, WRITE_TEAM]
    decoded = msgspec.json.decode(document)
    assert (decoded["sessions"], decoded["x"]) == ([1], {"y": 2})


def test_share_that_stays_keeps_its_id() -> None:
    """So that agents close only what was opened by others."""
    first = STORE.grants_in(write(READ_BOB, WRITE_TEAM))
    second = STORE.grants_in(write(WRITE_TEAM, document=write(READ_BOB, WRITE_TEAM)))
    assert len({grant.id for grant in first}) == 2
    document = write(READ_BOB, WRITE_TEAM)
    kept = STORE.grants_in(write(WRITE_TEAM, document=document))
    assert kept == STORE.grants_in(document)[1:]
    raised = STORE.grants_in(write(Share(Access.WRITE, user="bob"), document=document))
    assert raised[0].id not in {grant.id for grant in (*first, *second)}


@pytest.mark.parametrize(
    "store",
    [
        GrantStore(SECRET, "k2", "ann"),
        GrantStore(SECRET, "k1", "bob"),
        GrantStore(b"x", "k1", "ann"),
    ],
)
def test_share_of_another_kernel_owner_or_cluster_counts_for_nothing(store: GrantStore) -> None:
    """An agent may have got it from anywhere."""
    assert STORE.grants_in(write(READ_BOB, store=store)) == ()


@pytest.mark.parametrize(
    "change", [{"user": "eve"}, {"access": Access.WRITE}, {"id": "1"}, {"mac": ""}]
)
def test_changed_share_counts_for_nothing(change: dict[str, str]) -> None:
    """Each field is part of the code."""
    (grant,) = STORE.grants_in(write(READ_BOB))
    forged = msgspec.structs.replace(grant, **change)
    raw = msgspec.Raw(msgspec.json.encode({"shares": [forged]}))
    assert STORE.grants_in(raw) == ()


@pytest.mark.parametrize(
    "document",
    [
        b'{"shares": 5}',
        b'{"shares": [1]}',
        b'{"shares": [{"id": 1}]}',
        b'{"shares": [{"id": "1", "access": "all", "mac": ""}]}',
        b'{"shares": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"shares": [{"id": "\xff", "access": "read"}]}',
    ],
)
def test_malformed_shares_count_for_nothing(document: bytes) -> None:
    """And raise nothing."""
    assert STORE.grants_in(msgspec.Raw(document)) == ()


def test_best_of_several_shares_counts() -> None:
    """A user may be in a group with more rights than their own share has."""
    grants = STORE.grants_in(write(READ_BOB, WRITE_TEAM))
    assert best_grant(grants, User("bob")) == grants[0]
    assert best_grant(grants, User("bob", groups=frozenset({"team"}))) == grants[1]
    assert best_grant(grants, User("eve", groups=frozenset({"bob"}))) is None


def test_group_is_no_user_of_that_name() -> None:
    """Who may choose the name of a group gets nothing of the user's of that name."""
    assert not Share(Access.READ, group="bob").is_for(User("bob"))
    assert not Share(Access.READ, user="team").is_for(User("x", groups=frozenset({"team"})))


def test_right_is_that_of_owner_share_or_none() -> None:
    """The owner needs no share."""
    grants: tuple[Grant, ...] = STORE.grants_in(write(READ_BOB, WRITE_TEAM))
    assert decide_right(User("ann"), "ann", grants).right is Right.OWN
    assert decide_right(User("bob"), "ann", grants).right is Right.READ
    team = decide_right(User("x", groups=frozenset({"team"})), "ann", grants)
    assert (team.right, team.grant) == (Right.WRITE, grants[1].id)
    assert decide_right(User("eve"), "ann", grants).right is Right.NONE
