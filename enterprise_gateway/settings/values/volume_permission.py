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

    A folder stands for itself only, and not for those in it.
    """
    is_read_only: bool


def parse_permissions(texts: Iterable[str]) -> tuple[VolumePermission, ...]:
    """Parse the entries of `request_volumes`.

    Raises:
        ConfigurationError: an entry has another form, or names a folder below a user's own.
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
    return VolumePermission(kind, source, is_read_only=body != text)
