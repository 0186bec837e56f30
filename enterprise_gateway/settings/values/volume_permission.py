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


@dataclass(frozen=True, slots=True)
class VolumePermission:
    """One kind of volume, from one place."""

    kind: str
    """`tmpfs`, `volume`, `bind` or `nfs`."""
    source: str
    """A pattern of volumes' names, a folder, or `SERVER:/FOLDER`; may contain `{username}`."""
    is_read_only: bool


def parse_permissions(texts: Iterable[str]) -> tuple[VolumePermission, ...]:
    """Parse the entries of `request_volumes`.

    Raises:
        ConfigurationError: an entry has another form.
    """
    return tuple(_permission(text.strip()) for text in texts if text)


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
    return VolumePermission(kind, source, is_read_only=body != text)
