"""The file of users' tokens: what is in it, and what makes it faulty."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.users import SHARED, Account, Scope, User
from enterprise_gateway.web.access.identity.token_document import (
    MAX_TOKENS,
    StoredToken,
    TokenDocument,
    decode_tokens,
    encode_tokens,
    new_token,
)

NOW = datetime(2026, 11, 30, tzinfo=UTC)
GOOD = (
    b'{"tokens": [{"id": "00000001", "sha256": "' + b"a" * 64 + b'", "user": "ann",'
    b' "created": "2026-11-30T00:00:00Z"}]}'
)


def make(user: str = "ann", **changes: object) -> tuple[str, StoredToken]:
    """Make a token."""
    token, entry = new_token(
        user, created=NOW, expires=None, groups=["ml"], scopes=[Scope.KERNELS], acts_for=[]
    )
    return token, msgspec.structs.replace(entry, **changes)


def test_token_is_found_again_and_is_not_in_the_file() -> None:
    """Only its digest is."""
    token, entry = make(acts_for=("bob", "*"))
    text = encode_tokens([entry])
    assert token.encode() not in text
    found = decode_tokens(text).find(token)
    assert found == entry
    assert entry.make_user() == User(
        "ann", "ann", "ann",
        acts_for=frozenset({"bob", "*"}),
        groups=frozenset({"ml"}),
        credential=f"token:{entry.id}",
    )  # fmt: skip
    for wrong in ("", token[:-1], token + "x", token.upper(), entry.sha256, entry.id, "\udcff"):
        assert decode_tokens(text).find(wrong) is None


def test_tokens_are_long_and_different() -> None:
    """256 random bits: nothing to guess."""
    tokens = {make()[0] for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {46}


def test_minimal_entry_may_start_kernels() -> None:
    """And acts for no other user."""
    user = decode_tokens(GOOD).get("00000001")
    assert user is not None
    made = user.make_user()
    assert (made.scopes, made.acts_for, made.is_named) == ({Scope.KERNELS}, frozenset(), True)
    assert made != SHARED


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"\xff", "JSON"),
        (b"[" * 100_000, "object"),
        (b'{"token": []}', "token"),
        (GOOD.replace(b'"user"', b'"username"'), "username"),
        (GOOD.replace(b'"ann"', b'""'), r"\$.tokens\[0\].user"),
        (GOOD.replace(b'"ann"', b'"*"'), "'\\*'"),
        (GOOD.replace(b'"ann"', b'"enterprise-gateway-pool"'), "enterprise-gateway-pool"),
        (GOOD.replace(b'"ann"', b'"a\\nb"'), "user or group"),
        (GOOD.replace(b'"ann"', b'"' + b"a" * 256 + b'"'), "user"),
        (GOOD.replace(b"00000001", b"1"), "id"),
        (GOOD.replace(b"00000001", b"00000001\\n"), "id"),
        (GOOD.replace(b"a" * 64, b"a" * 63), "sha256"),
        (GOOD.replace(b"a" * 64, b"A" * 64), "sha256"),
        (GOOD.replace(b"00:00Z", b"00:00"), "created"),
        (GOOD.replace(b'"id"', b'"scopes": ["root"], "id"'), "scopes"),
        (GOOD.replace(b'"id"', b'"groups": ["*"], "id"'), "'\\*'"),
        (GOOD.replace(b'"id"', b'"expires": "never", "id"'), "expires"),
        (GOOD.replace(b'"id"', b'"uid": -1, "id"'), "uid"),
        (GOOD.replace(b'"id"', b'"gid": 4294967296, "id"'), "gid"),
    ],
)
def test_faulty_file_is_refused_with_the_place_of_the_fault(text: bytes, named: str) -> None:
    """No entry is left out silently."""
    with pytest.raises(ConfigurationError, match=named):
        decode_tokens(text)


def test_token_that_is_there_twice_is_a_fault() -> None:
    """It would be unclear whose it is."""
    _, one = make()
    _, other = make("bob")
    for second in (
        msgspec.structs.replace(other, sha256=one.sha256),
        msgspec.structs.replace(other, id=one.id),
    ):
        with pytest.raises(ConfigurationError, match="twice"):
            decode_tokens(encode_tokens([one, second]))


def test_groups_of_a_user_are_those_of_all_tokens_that_are_valid() -> None:
    """Of expired ones only if there are no others: members do not leave a group by waiting."""
    later = NOW + timedelta(hours=1)
    document = TokenDocument(
        entry
        for _, entry in (
            make(groups=("lab",)),
            make(groups=("ml", "lab")),
            make(groups=("former",), expires=later),
            make("bob", groups=("former",), expires=later),
        )
    )
    everything = Account(frozenset({"lab", "ml", "former"}))
    assert document.account("ann", NOW) == everything
    assert document.account("ann", later) == Account(frozenset({"lab", "ml"}))
    assert document.account("bob", later) == Account(frozenset({"former"}))
    assert document.account("carl", NOW) == Account()


def test_ids_of_a_user_are_those_of_any_token() -> None:
    """Also of one that has expired: a user is one user of the system."""
    expired = make(uid=5, expires=NOW)[1]
    document = TokenDocument([make()[1], expired, make(gid=6)[1], make("bob", uid=7)[1]])
    found = document.account("ann", NOW)
    assert (found.uid, found.gid) == (5, 6)
    assert decode_tokens(encode_tokens(document)).account("ann", NOW) == found


@pytest.mark.parametrize("name", ["uid", "gid"])
def test_different_ids_of_one_user_are_a_fault(name: str) -> None:
    """It would be unclear which counts."""
    with pytest.raises(ConfigurationError, match="'ann' have different ids"):
        TokenDocument(make(**{name: number})[1] for number in (5, 6))


def test_number_of_tokens_is_limited() -> None:
    """A file that an attacker has filled does not fill the memory."""
    _, entry = make()
    with pytest.raises(ConfigurationError, match="length"):
        decode_tokens(encode_tokens([entry] * (MAX_TOKENS + 1)))


def test_removed_and_changed_tokens_are_lost() -> None:
    """Those whose expiry has changed are not."""
    entries = [make(name)[1] for name in ("removed", "other", "admin", "longer", "same")]
    removed, other, admin, longer, same = entries
    now = TokenDocument(
        [
            msgspec.structs.replace(other, user="another"),
            msgspec.structs.replace(admin, scopes=(Scope.ADMIN,)),
            msgspec.structs.replace(longer, expires=NOW + timedelta(days=1)),
            same,
        ]
    )
    assert list(now.lost_since(TokenDocument(entries))) == [removed, other, admin]


def test_token_expires_at_its_time() -> None:
    """And one without a time never."""
    _, entry = make(expires=NOW)
    assert not entry.is_over(NOW - timedelta(seconds=1))
    assert entry.is_over(NOW)
    assert not make()[1].is_over(NOW + timedelta(days=36500))
