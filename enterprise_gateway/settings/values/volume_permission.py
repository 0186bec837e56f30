"""What requests may mount: one entry of `request_volumes`. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from enterprise_gateway.errors import ConfigurationError

TMPFS = "tmpfs"
VOLUME = "volume"
BIND = "bind"
NFS = "nfs"
_ENTRY = re.compile(r"(tmpfs)|(volume):([^:/]+)|(bind):(/[^:]*)|(nfs):([^:/]+:/[^:]*)")
_READ_ONLY = ":ro"
_WILDCARD = re.compile(r"[*?[]")
_NOT_IN_USERNAMES = re.compile("[^A-Za-z0-9-]")
USERNAME = "{username}"
BELOW_USER = (
    "{username} must be in the last part of the path, since users could put links in the place of "
    "folders below their own; name the user's folder itself"
)
"""Why a folder is refused that is below a user's own; the end of a sentence."""


@dataclass(frozen=True, slots=True)
class VolumePermission:
    """One kind of volume, from one place."""

    kind: str
    """`tmpfs`, `volume`, `bind` or `nfs`."""
    source: str
    """A pattern of volumes' names, a folder, or `SERVER:/FOLDER`; may contain `{username}`.

    A folder stands for itself only, and not for those in it. No volume fits for two users if the
    pattern names the user.
    """
    is_read_only: bool


def parse_permissions(texts: Iterable[str]) -> tuple[VolumePermission, ...]:
    """Parse the entries of `request_volumes`.

    Raises:
        ConfigurationError: an entry has another form, names a folder below a user's own, or
            volumes of which one could be two users'.
    """
    return tuple(_permission(text.strip()) for text in texts if text)


def has_folder_below_user(path: str) -> bool:
    """Return whether a path has parts after the one with `{username}`."""
    return USERNAME in path.rstrip("/").rpartition("/")[0]


def _permission(text: str) -> VolumePermission:
    body = text.removesuffix(_READ_ONLY)
    match = _ENTRY.fullmatch(body)
    if match is None or ".." in body.split("/"):
        raise ConfigurationError(
            f"request_volumes {text[:100]!r} is none of tmpfs, volume:PATTERN, bind:/FOLDER and "
            "nfs:SERVER:/FOLDER, each with or without :ro at the end."
        )
    kind, _, source = body.partition(":")
    if kind in (BIND, NFS):
        source = source.rstrip("/") or "/"
        if has_folder_below_user(source):
            raise ConfigurationError(f"request_volumes {text[:100]!r}: {BELOW_USER}.")
    if kind == VOLUME and _may_belong_to_two_users(source):
        raise ConfigurationError(
            f"request_volumes {text[:100]!r}: a volume could be that of two users, as their names "
            "may contain hyphens; put '.' or '_', which they do not, between {username} and '*'."
        )
    return VolumePermission(kind, source, is_read_only=body != text)


def _may_belong_to_two_users(pattern: str) -> bool:
    """Return whether a volume's name may fit a pattern for two users.

    It does not if what is before the first wildcard, or behind the last, tells where the user's
    name ends: escaped names consist of letters, digits and hyphens.
    """
    first, *others = _WILDCARD.split(pattern)
    if USERNAME not in pattern or not others:
        return False
    behind = first.partition(USERNAME)[2]
    before = others[-1].rpartition(USERNAME)[0]
    return not any(
        _NOT_IN_USERNAMES.search(text.replace(USERNAME, "")) for text in (behind, before)
    )
