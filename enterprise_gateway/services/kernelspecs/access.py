"""Decides which users may use which kernelspecs. Pure.

A kernelspec's own `authorized_users` replaces the global set, its `unauthorized_users` adds to the
global one. Both are lists of names, or one string with commas between the names. Names are compared
as a whole, case and all.
"""

from collections.abc import Iterable
from enum import Enum

from enterprise_gateway.services.processproxies.config import ProxyConfig
from enterprise_gateway.settings import KernelSettings


class Access(Enum):
    """A user's access to a kernelspec, in Enterprise Gateway's words."""

    GRANTED = "authorized"
    DENIED = "not authorized"
    NOT_LISTED = "not in the set of users authorized"


def decide_access(username: str, config: ProxyConfig, settings: KernelSettings) -> Access:
    """Decide whether a user may use a kernelspec.

    Args:
        username: `KERNEL_USERNAME`.
        config: that of the kernelspec.
        settings: the global sets.
    """
    if username in settings.unauthorized_users | _names(config.unauthorized_users):
        return Access.DENIED
    authorized = _names(config.authorized_users) or settings.authorized_users
    if authorized and username not in authorized:
        return Access.NOT_LISTED
    return Access.GRANTED


def _names(stated: str | Iterable[str]) -> frozenset[str]:
    names = stated.split(",") if isinstance(stated, str) else stated
    return frozenset(name.strip() for name in names if name.strip())
