"""`KERNEL_VOLUMES` and `KERNEL_VOLUME_MOUNTS` of a request, as volumes. Pure.

They have the shape that Enterprise Gateway gives them: a JSON list of Kubernetes volumes, and one
of `volumeMounts`, of which each names a volume.
https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume/
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec

from enterprise_gateway.errors import UNREADABLE_JSON
from enterprise_gateway.services.processproxies.sandbox.volumes import (
    MAX_VOLUMES,
    Bind,
    NamedVolume,
    Nfs,
    Tmpfs,
    Volume,
    VolumeError,
)
from enterprise_gateway.settings import VolumePermission
from enterprise_gateway.settings.values.volume_permission import USERNAME

VOLUMES = "KERNEL_VOLUMES"
MOUNTS = "KERNEL_VOLUME_MOUNTS"

_Entry = TypeVar("_Entry")


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pass


class _HostPath(_Shape, frozen=True):
    path: str
    type: str = ""


class _NfsSource(_Shape, frozen=True):
    server: str
    path: str
    read_only: bool = False


class _Claim(_Shape, frozen=True):
    claim_name: str
    read_only: bool = False


class _EmptyDir(_Shape, frozen=True):
    medium: str = ""
    size_limit: str | int = ""


class _Source(_Shape, frozen=True):
    name: str
    host_path: _HostPath | None = None
    nfs: _NfsSource | None = None
    persistent_volume_claim: _Claim | None = None
    empty_dir: _EmptyDir | None = None


class _VolumeMount(_Shape, frozen=True):
    name: str
    mount_path: str
    read_only: bool = False


def requested_volumes(env: Mapping[str, str]) -> tuple[Volume, ...]:
    """Return the volumes that a request asks for.

    Raises:
        VolumeError: they are malformed.
    """
    sources = _decode(env, VOLUMES, _Source)
    mounts = _decode(env, MOUNTS, _VolumeMount)
    if len(mounts) > MAX_VOLUMES:
        raise VolumeError(f"{MOUNTS} has more than {MAX_VOLUMES} entries")
    by_name = {source.name: source for source in sources}
    for mount in mounts:
        if mount.name not in by_name:
            raise VolumeError(f"{MOUNTS} names {mount.name[:100]!r}, which {VOLUMES} does not have")
    return tuple(_volume(by_name[mount.name], mount) for mount in mounts)


def check_permitted(volume: Volume, permissions: Iterable[VolumePermission], username: str) -> None:
    """Raise `VolumeError` unless requests may mount a volume.

    A folder is permitted by its own name only: users may write in it, and could put a link in the
    place of a folder below after it was checked.

    Args:
        volume: without templates.
        permissions: what requests may mount.
        username: the user's, escaped as in names.
    """
    matching = [
        each
        for each in permissions
        if _matches(volume, each.kind, each.source.replace(USERNAME, username))
    ]
    if not matching:
        raise VolumeError(
            f"requests may not mount {_describe(volume)}: request_volumes (EG_REQUEST_VOLUMES) "
            "says what they may"
        )
    if not volume.read_only and all(each.is_read_only for each in matching):
        raise VolumeError(f"requests may mount {_describe(volume)} with readOnly only")


def _decode(env: Mapping[str, str], name: str, kind: type[_Entry]) -> tuple[_Entry, ...]:
    text = env.get(name, "")
    if not text:
        return ()
    try:
        return tuple(msgspec.json.decode(text, type=list[kind]))  # type: ignore[valid-type] # built here
    except UNREADABLE_JSON as exc:
        raise VolumeError(f"{name} is not a JSON list as it must be: {str(exc)[:200]}") from exc


def _volume(source: _Source, mount: _VolumeMount) -> Volume:
    found: list[Volume] = []
    target, read_only = mount.mount_path, mount.read_only
    if source.host_path is not None:
        found.append(Bind(source=source.host_path.path, target=target, read_only=read_only))
    if source.nfs is not None:
        nfs = source.nfs
        read_only = read_only or nfs.read_only
        found.append(Nfs(server=nfs.server, path=nfs.path, target=target, read_only=read_only))
    if source.persistent_volume_claim is not None:
        claim = source.persistent_volume_claim
        read_only = read_only or claim.read_only
        found.append(NamedVolume(source=claim.claim_name, target=target, read_only=read_only))
    if source.empty_dir is not None:
        if source.empty_dir.medium != "Memory":
            raise VolumeError(f"emptyDir of the volume {source.name[:100]!r} needs medium Memory")
        size = source.empty_dir.size_limit
        found.append(Tmpfs(size=size, target=target, read_only=read_only))
    if len(found) != 1:
        raise VolumeError(
            f"the volume {source.name[:100]!r} must be one of hostPath, nfs, "
            "persistentVolumeClaim (a volume of the engine) and emptyDir"
        )
    return found[0]


def _matches(volume: Volume, kind: str, source: str) -> bool:
    match volume:
        case Tmpfs():
            return kind == "tmpfs"
        case NamedVolume():
            return kind == "volume" and fnmatchcase(volume.source, source)
        case Bind():
            return kind == "bind" and _shortest(volume.source) == source
        case Nfs():
            server, _, folder = source.partition(":")
            is_named = _shortest(volume.path) == folder
            return kind == "nfs" and volume.server == server and is_named


def _shortest(path: str) -> str:
    """Return a path without empty parts; one with `..` matches nothing."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "" if ".." in parts or not path.startswith("/") else "/" + "/".join(parts)


def _describe(volume: Volume) -> str:
    match volume:
        case Tmpfs():
            return "a tmpfs"
        case NamedVolume():
            return f"the volume {volume.source[:100]!r}"
        case Bind():
            return f"the folder {volume.source[:200]!r} of the host"
        case Nfs():
            return f"{volume.path[:200]!r} of the NFS server {volume.server[:100]!r}"
