"""Decides which users may use which kernelspecs. Pure.

A kernelspec's own `authorized_users` replaces the global set, its `unauthorized_users` adds to the
global one. Both are lists of names, or one string with commas between the names. Names are compared
as a whole, case and all.
"""

from collections.abc import Mapping
from enum import Enum

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import KernelSettings


class Access(Enum):
    """A user's access to a kernelspec, in Enterprise Gateway's words."""

    GRANTED = "authorized"
    DENIED = "not authorized"
    NOT_LISTED = "not in the set of users authorized"


def decide_access(
    username: str, proxy_config: Mapping[str, object], settings: KernelSettings
) -> Access:
    """Decide whether a user may use a kernelspec.

    Args:
        username: `KERNEL_USERNAME`.
        proxy_config: `metadata.process_proxy.config` of the kernelspec.
        settings: the global sets.

    Raises:
        ConfigurationError: one of the kernelspec's sets is neither a string nor a list of strings.
    """
    if username in settings.unauthorized_users | _names(proxy_config, "unauthorized_users"):
        return Access.DENIED
    authorized = _names(proxy_config, "authorized_users") or settings.authorized_users
    if authorized and username not in authorized:
        return Access.NOT_LISTED
    return Access.GRANTED


def _names(proxy_config: Mapping[str, object], key: str) -> frozenset[str]:
    value = proxy_config.get(key, ())
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(
            f"The kernelspec's {key} must be a string with commas or a list of strings."
        )
    return frozenset(name.strip() for name in names if name.strip())
