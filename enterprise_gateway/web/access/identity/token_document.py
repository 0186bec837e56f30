"""The file of the users' tokens: its JSON, and whose a token is. Pure.

The file has only SHA-256 digests. Tokens are 256 random bits, so that no salt and no slow digest
are needed: there is nothing to try.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Annotated

import msgspec

from enterprise_gateway.errors import UNREADABLE_JSON, ConfigurationError
from enterprise_gateway.services.users import (
    EVERYONE,
    MAX_NAME_CHARS,
    Account,
    Scope,
    User,
    is_name,
)
from enterprise_gateway.settings import parse

MAX_TOKENS = 10_000
MAX_BYTES = 8 * 1024 * 1024
MAX_NAMES = 1000

_PREFIX = "eg_"
"""Tells scanners for lost secrets what a token is."""
_TOKEN_BYTES = 32
_ID_BYTES = 4

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARS)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_NAMES)]
Id = Annotated[int, msgspec.Meta(ge=0, le=parse.MAX_ID)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class StoredToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One token.

    Attributes:
        id: Names it, and opens nothing: 8 hexadecimal digits.
        sha256: Of the token, in hexadecimal.
        user: Whose it is.
        created: When it was made.
        expires: When it ceases to be accepted; None: never.
        groups: The user's.
        scopes: What the user may do with it.
        acts_for: Other users for whom the user may act with it; `*` for all.
        uid: The user id of the processes of the user's kernels; None: not stated.
        gid: The group id likewise.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{8}\Z")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    user: Name
    created: Time
    expires: Time | None = None
    groups: Names = ()
    scopes: tuple[Scope, ...] = (Scope.KERNELS,)
    acts_for: Names = ()
    uid: Id | None = None
    gid: Id | None = None

    def __post_init__(self) -> None:
        """Check the names; msgspec reports a ValueError with its place in the file."""
        others = (name for name in self.acts_for if name != EVERYONE)
        for name in (self.user, *self.groups, *others):
            if not is_name(name):
                raise ValueError(f"{name!r} cannot be the name of a user or group")

    @property
    def credential(self) -> str:
        """Return the `User.credential` of those who show it."""
        return f"token:{self.id}"

    def make_user(self) -> User:
        """Return the user who shows it."""
        return User(
            username=self.user,
            name=self.user,
            display_name=self.user,
            acts_for=frozenset(self.acts_for),
            groups=frozenset(self.groups),
            scopes=frozenset(self.scopes),
            credential=self.credential,
        )

    def is_over(self, now: datetime) -> bool:
        """Return whether it has expired."""
        return self.expires is not None and self.expires <= now


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    tokens: Annotated[tuple[StoredToken, ...], msgspec.Meta(max_length=MAX_TOKENS)] = ()


class TokenDocument:
    """The tokens of the file."""

    def __init__(self, tokens: Iterable[StoredToken] = ()) -> None:
        """Take tokens.

        Raises:
            ConfigurationError: Two have the same digest or id, or give a user different ids.
        """
        self._by_digest: dict[str, StoredToken] = {}
        self._by_id: dict[str, StoredToken] = {}
        self._by_user: dict[str, list[StoredToken]] = {}
        for token in tokens:
            if token.id in self._by_id or token.sha256 in self._by_digest:
                raise ConfigurationError(f"token {token.id} is there twice")
            self._by_digest[token.sha256] = self._by_id[token.id] = token
            self._by_user.setdefault(token.user, []).append(token)
        for user, several in self._by_user.items():
            if any(len(set(ids)) > 1 for ids in _stated_ids(several)):
                raise ConfigurationError(f"the tokens of {user!r} have different ids (uid, gid)")

    def __iter__(self) -> Iterator[StoredToken]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, token: str) -> StoredToken | None:
        """Return the entry of a token.

        How long that takes says at most something of the digests of guesses, and so of no token.
        """
        return self._by_digest.get(_digest(token))

    def get(self, token_id: str) -> StoredToken | None:
        """Return the entry of an id."""
        return self._by_id.get(token_id)

    def account(self, username: str, now: datetime) -> Account:
        """Return what the tokens of a user say of them, all taken together.

        Groups of tokens that have expired count only for a user who has no others.
        """
        tokens = self._by_user.get(username, [])
        valid = [token for token in tokens if not token.is_over(now)]
        groups = frozenset(name for token in valid or tokens for name in token.groups)
        uids, gids = _stated_ids(tokens)
        return Account(groups, next(iter(uids), None), next(iter(gids), None))

    def lost_since(self, former: "TokenDocument") -> Iterator[StoredToken]:
        """Yield the former tokens that are not here any more, or give other rights now."""
        for token in former:
            now = self._by_id.get(token.id)
            if now is None or _rights(now) != _rights(token):
                yield token


def decode_tokens(raw: bytes) -> TokenDocument:
    """Return the tokens of the file's bytes.

    Raises:
        ConfigurationError: They are no such document; the text says where and why.
    """
    try:
        return TokenDocument(msgspec.json.decode(raw, type=_Document).tokens)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"{exc}") from exc
    except UNREADABLE_JSON as exc:
        raise ConfigurationError(f"it is not JSON: {exc}") from exc


def encode_tokens(tokens: Iterable[StoredToken]) -> bytes:
    """Return the bytes of a file with these tokens."""
    return msgspec.json.format(msgspec.json.encode(_Document(tuple(tokens))), indent=2) + b"\n"


def new_token(
    user: str,
    *,
    created: datetime,
    expires: datetime | None,
    groups: Iterable[str],
    scopes: Iterable[Scope],
    acts_for: Iterable[str],
    uid: int | None = None,
    gid: int | None = None,
) -> tuple[str, StoredToken]:
    """Make a token; return it, and its entry in the file.

    Raises:
        ValueError: A name cannot be that of a user or group.
    """
    token = _PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    entry = StoredToken(
        id=secrets.token_hex(_ID_BYTES),
        sha256=_digest(token),
        user=user,
        created=created,
        expires=expires,
        groups=tuple(groups),
        scopes=tuple(scopes),
        acts_for=tuple(acts_for),
        uid=uid,
        gid=gid,
    )
    return token, entry


def _stated_ids(tokens: Iterable[StoredToken]) -> tuple[list[int], list[int]]:
    """Return the ids of users and of groups that tokens state."""
    tokens = list(tokens)
    uids = [token.uid for token in tokens if token.uid is not None]
    return uids, [token.gid for token in tokens if token.gid is not None]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _rights(token: StoredToken) -> tuple[object, ...]:
    return (
        token.sha256,
        token.user,
        set(token.groups),
        set(token.scopes),
        set(token.acts_for),
    )
