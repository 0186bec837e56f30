"""What a user may do with a kernel. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.kernels.access.shares import Access, Grant, best_grant
from enterprise_gateway.services.users import User

MAX_VALID_SECONDS = 10**9 - 1
"""The longest time that an agent takes for the life of a credential."""


class Right(IntEnum):
    """How much a user may do with a kernel; each allows what those before it do."""

    NONE = auto()
    READ = auto()
    """See its output and state."""
    WRITE = auto()
    """Run code in it, interrupt, restart and end it."""
    OWN = auto()
    """Share it."""


@dataclass(frozen=True, slots=True)
class KernelAccess:
    """A user's right to a kernel, and where they have it from.

    Attributes:
        right: What they may do.
        owner: The kernel's user as in the name of its workload; "" if that was not looked at.
        grant: Id of the share that allows it; "": there is none, or none is needed.
    """

    right: Right
    owner: str = ""
    grant: str = ""

    def require(self, right: Right) -> None:
        """Check that a user who knows of a kernel may do something with it.

        Raises:
            ForbiddenError: They may not.
        """
        if self.right >= right:
            return
        if self.right is Right.READ:
            raise ForbiddenError(
                "This kernel is shared with you read-only: ask its owner for write access, or "
                "start a kernel of your own."
            )
        raise ForbiddenError("Only the owner of a kernel can see and change its shares.")


ALL = KernelAccess(Right.OWN)
"""The right of a user who may use all kernels."""


def decide_right(user: User, owner: str, grants: Sequence[Grant]) -> KernelAccess:
    """Return a user's right to a kernel.

    Args:
        user: The user.
        owner: The kernel's user as in the name of its workload.
        grants: Its valid shares.
    """
    if user.may_use(owner):
        return KernelAccess(Right.OWN, owner)
    grant = best_grant(grants, user)
    if grant is None:
        return KernelAccess(Right.NONE, owner)
    right = Right.WRITE if grant.access is Access.WRITE else Right.READ
    return KernelAccess(right, owner, grant.id)


def identify_client(user: User, access: KernelAccess, now: float) -> dict[str, str]:
    """Return the parameters that tell an agent whose connection it gets.

    The agent closes it once the credential is revoked or expires, or the share goes. There are none
    for a client with the shared token, since the gateway does not know who that is.

    Args:
        user: The user.
        access: Their access to the kernel.
        now: The present time, in seconds since 1970.
    """
    client = {"user": user.username, "credential": user.credential} if user.is_named else {}
    if user.expires is not None:
        client["valid_for"] = str(max(0, min(math.ceil(user.expires - now), MAX_VALID_SECONDS)))
    if access.grant:
        client["grant"] = access.grant
    return client
