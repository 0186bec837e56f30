"""Who sends a request, and what they may do. Pure."""

import functools
from dataclasses import dataclass, replace
from enum import StrEnum

from aiohttp import web

from enterprise_gateway.services.processproxies.contract import POOL_USERNAME
from enterprise_gateway.services.processproxies.workloads.names import escape_username

EVERYONE = "*"
MAX_NAME_CHARS = 255
"""Longest name of a user or group."""
MAX_REMEMBERED = 1000
"""Users whose escaped names are remembered: a list compares them with the owner of each kernel."""
_NO_NAMES = frozenset({EVERYONE, POOL_USERNAME})


class Scope(StrEnum):
    """What a user may do at all."""

    KERNELS = "kernels"
    """Start kernels, and use those of the users that they may act for."""
    ADMIN = "admin"
    """Use the kernels of all users."""
    METRICS = "read:metrics"


@dataclass(frozen=True, slots=True)
class Account:
    """What the gateway knows of a kernel's user besides the name.

    Attributes:
        groups: The groups that they are in.
        uid: The user id of their kernels' processes; None: not stated.
        gid: The group id likewise.
    """

    groups: frozenset[str] = frozenset()
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """The user of a request, with the fields of `jupyter_server.auth.User`.

    Attributes:
        username: Who it is.
        acts_for: The users whose kernels are also theirs: a Jupyter server that serves many people
            acts for them. `*` for everyone.
        groups: The groups that they are in.
        scopes: What they may do.
        credential: Which credential they showed, in a form that opens nothing; "" for the token
            that all share.
        expires: When the credential ceases to be accepted, in seconds since 1970; None: never.
    """

    username: str = "anonymous"
    name: str = "Anonymous"
    display_name: str = "Anonymous"
    initials: str | None = None
    avatar_url: str | None = None
    color: str | None = None
    acts_for: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    scopes: frozenset[Scope] = frozenset({Scope.KERNELS})
    credential: str = ""
    expires: float | None = None

    @property
    def is_named(self) -> bool:
        """Whether the gateway knows who it is, by a credential that is theirs alone."""
        return bool(self.credential)

    def __str__(self) -> str:
        """Return the user name, which Jupyter Enterprise Gateway passes to authorizers."""
        return self.username

    def may_act_for(self, username: str) -> bool:
        """Return whether a kernel may be started in the name of a user."""
        return EVERYONE in self.acts_for or username == self.username or username in self.acts_for

    def name_for(self, wanted: str | None) -> str | None:
        """Return the user in whose name they do what a request asks for.

        Args:
            wanted: the name in the request, such as `KERNEL_USERNAME`; None or "" if it has none.

        Returns:
            The wanted name if they may act for it, else their own. The name of a client with the
            shared token is as it is, and None if the request has none.
        """
        if not self.is_named:
            return wanted
        return wanted if wanted and self.may_act_for(wanted) else self.username

    def account_for(self, username: str, known: Account) -> Account:
        """Return the account of a user in whose name they start a kernel.

        Kernels that a service starts count in the quotas of the user's groups, too. What a client
        with the shared token says of ids is believed, as in Jupyter Enterprise Gateway.

        Args:
            username: the user's name.
            known: what is known of that user without their credential.
        """
        if not self.is_named:
            return Account(known.groups)
        own = self.groups if username == self.username else frozenset()
        return replace(known, groups=known.groups | own)

    @property
    def may_act_for_all(self) -> bool:
        """Whether kernels may be started in any name: the users behind it are its own business."""
        return EVERYONE in self.acts_for

    @property
    def may_use_all(self) -> bool:
        """Whether every kernel is theirs."""
        return self.may_act_for_all or Scope.ADMIN in self.scopes

    def may_use(self, owner: str) -> bool:
        """Return whether a kernel is theirs.

        Args:
            owner: Its user as in the name of its workload: escaped.
        """
        if self.may_use_all:
            return True
        return owner in _escaped_names(self.username, self.acts_for)


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a user or group: printable, and not `*`."""
    return (
        0 < len(text) <= MAX_NAME_CHARS
        and text.isprintable()
        and text == text.strip()
        and "`" not in text  # which no variable of a kernel may contain
        and text not in _NO_NAMES
    )


@functools.lru_cache(maxsize=MAX_REMEMBERED)
def _escaped_names(username: str, acts_for: frozenset[str]) -> frozenset[str]:
    """Return the names of users as in the names of workloads."""
    return frozenset(escape_username(name) for name in {username, *acts_for})


SHARED = User(acts_for=frozenset({EVERYONE}), scopes=frozenset(Scope))
"""A client with the token that all share, or any client where there is no authentication.

Who it is the gateway does not know; `KERNEL_USERNAME` is believed.
"""
USER: web.RequestKey[User] = web.RequestKey("user", User)
"""The user of a request, set before any handler is called."""
