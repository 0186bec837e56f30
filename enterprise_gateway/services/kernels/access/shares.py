"""The shares of a kernel in its annotations: pure.

The annotations are a JSON object; shares are the list under its key `shares`. Other keys are kept.
An agent can write anything there, so a share is valid only with the message authentication code of
a gateway.
"""

import hmac
import secrets
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import msgspec

from enterprise_gateway.errors import InvalidRequestError
from enterprise_gateway.services.kernels.access.annotations import (
    read_annotations,
    replace_entry,
)
from enterprise_gateway.services.users import MAX_NAME_CHARS, User

KEY = "shares"
MAX_SHARES = 50
MAX_BYTES = 24 * 1024
"""Of all shares of a kernel: an agent takes annotations of 64 KiB, and sessions need room too."""

_KEY_LABEL = b"enterprise-gateway shares\0"
"""No kernel id, so no agent's token is ever this key."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARS)]


class Access(StrEnum):
    """What a share allows."""

    READ = "read"
    """See the kernel's output and state."""
    WRITE = "write"
    """Use it as its owner does, but for sharing it."""


class Share(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A share as clients write and read it: with one user, or with one group."""

    access: Access
    user: Name | None = None
    group: Name | None = None

    def __post_init__(self) -> None:
        """Check that it names one of both.

        Raises:
            ValueError: It names none, or both.
        """
        if (self.user is None) == (self.group is None):
            raise ValueError("a share names either a user or a group")

    def is_for(self, user: User) -> bool:
        """Return whether it is a user's."""
        if self.user is not None:
            return self.user == user.username
        return self.group in user.groups


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """A share as it is stored in annotations."""

    id: Annotated[str, msgspec.Meta(max_length=64)]
    """Names it to the agent, which closes what it opened once it has gone."""
    access: Access
    user: str | None = None
    group: str | None = None
    mac: str = ""
    """HMAC-SHA256 over the other fields, the kernel's id and its owner, in hexadecimal."""

    @property
    def share(self) -> Share:
        """What clients see of it."""
        return Share(self.access, self.user, self.group)


class _Document(msgspec.Struct):
    shares: list[Grant] = []


class GrantStore:
    """Reads and writes the shares of one kernel."""

    def __init__(self, cluster_secret: bytes, kernel_id: str, owner: str) -> None:
        """Prepare.

        Args:
            cluster_secret: The secret that all replicas share.
            kernel_id: The kernel.
            owner: Its user as in the name of its workload.
        """
        self._key = hmac.digest(cluster_secret, _KEY_LABEL, "sha256")
        self._kernel = (kernel_id, owner)

    def grants_in(self, document: msgspec.Raw) -> tuple[Grant, ...]:
        """Return the valid shares.

        The most that an agent can forge is an earlier share of this kernel by its owner.
        """
        if b'"shares"' not in bytes(document):
            return ()
        stored = read_annotations(document, _Document).shares[:MAX_SHARES]
        return tuple(
            each for each in stored if hmac.compare_digest(each.mac.encode(), self._mac(each))
        )

    def with_shares(self, shares: Sequence[Share], document: msgspec.Raw) -> dict[str, object]:
        """Return the annotations with other shares; one that stays keeps its id."""
        known = {grant.share: grant for grant in self.grants_in(document)}
        grants = [known.get(share) or self._new_grant(share) for share in shares]
        return replace_entry(document, KEY, grants)

    def _new_grant(self, share: Share) -> Grant:
        grant = Grant(secrets.token_hex(8), share.access, share.user, share.group)
        return msgspec.structs.replace(grant, mac=self._mac(grant).decode())

    def _mac(self, grant: Grant) -> bytes:
        fields = (*self._kernel, grant.id, grant.access, grant.user, grant.group)
        return hmac.digest(self._key, msgspec.json.encode(fields), "sha256").hex().encode()


def check_shares(shares: Sequence[Share]) -> None:
    """Check what a client wants to share a kernel with.

    Raises:
        InvalidRequestError: They are too many or too large, or one user or group is there twice.
    """
    if len(shares) > MAX_SHARES:
        raise InvalidRequestError(f"A kernel has at most {MAX_SHARES} shares.")
    if len(msgspec.json.encode(shares)) > MAX_BYTES:
        raise InvalidRequestError(
            f"The shares of a kernel have at most {MAX_BYTES} bytes: share it with groups."
        )
    named = Counter((share.user, share.group) for share in shares)
    for (user, group), count in named.items():
        if count > 1:
            kind = "User" if user is not None else "Group"
            raise InvalidRequestError(f"{kind} {user or group!r} has more than one share.")


def best_grant(grants: Sequence[Grant], user: User) -> Grant | None:
    """Return the share that allows a user the most, None if there is none for them."""
    own = [grant for grant in grants if grant.share.is_for(user)]
    return max(own, key=lambda grant: grant.access is Access.WRITE, default=None)
