"""Volumes as kernelspecs state them, and the mounts that they become. Pure."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from enterprise_gateway.services.processproxies.sandbox.host_paths import (
    PathError,
    check_host_path,
    is_in,
)
from enterprise_gateway.services.processproxies.sandbox.mounts import (
    DriverConfig,
    Mount,
    TmpfsOptions,
    VolumeOptions,
)
from enterprise_gateway.services.processproxies.sandbox.templates import (
    TemplateError,
    replace_templates,
)
from enterprise_gateway.settings.values.sizes import read_size
from enterprise_gateway.settings.values.volume_permission import BELOW_USER, has_folder_below_user

MAX_VOLUMES = 32
OWN_PREFIX = "enterprise-gateway"
"""How the names of volumes begin that are the gateways' own, such as that with the engine proxy."""
_RESERVED_TARGETS = ("/proc", "/sys", "/dev", "/opt/enterprise-gateway", "/run/secrets")
_NAME = re.compile("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
"""The names that Docker takes for volumes and plugins."""
_PLUGIN = re.compile("[a-zA-Z0-9][a-zA-Z0-9_.:/-]{0,200}")
_HOST = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]{0,253}|[0-9a-fA-F:]{2,45}")
_NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs")
_FILE_SYSTEMS = (*_NETWORK_FILE_SYSTEMS, "tmpfs")
_LOCAL_FLAGS = frozenset(
    {"bind", "rbind", "move", "remount", "suid", "dev", "shared", "rshared", "slave", "rslave"}
)
"""Options of mount(8) that make another mount of it, or one that root's programs are trusted in."""
_DIGEST_CHARS = 16


class VolumeError(Exception):
    """A volume is malformed or not allowed; the message says which, and why."""


class _Volume(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    target: str
    """Where it is in the container."""
    read_only: bool = False


class NamedVolume(_Volume, frozen=True, kw_only=True, tag_field="type", tag="volume"):
    """A volume of the engine, made when it is first used, by a plugin if that is stated."""

    source: str
    driver: str = ""
    options: dict[str, str] = {}


class Bind(_Volume, frozen=True, kw_only=True, tag_field="type", tag="bind"):
    """A folder of the engine's host."""

    source: str


class Nfs(_Volume, frozen=True, kw_only=True, tag_field="type", tag="nfs"):
    """A folder of an NFS server."""

    server: str
    path: str
    options: str = ""
    """Of mount(8), such as `nfsvers=4,soft`."""


class Tmpfs(_Volume, frozen=True, kw_only=True, tag_field="type", tag="tmpfs"):
    """A file system in the container's memory."""

    size: str | int = ""


Volume = NamedVolume | Bind | Nfs | Tmpfs


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """Which folders of the host kernels may have."""

    roots: tuple[str, ...]
    sockets: tuple[str, ...]
    """Sockets of engines, besides the usual ones."""


def parse_volumes(stated: object) -> tuple[Volume, ...]:
    """Return the volumes of a kernelspec's `volumes`.

    Raises:
        VolumeError: they are malformed.
    """
    try:
        volumes = msgspec.convert(stated, type=tuple[Volume, ...])
    except msgspec.ValidationError as exc:
        raise VolumeError(f"not understood: {exc}") from exc
    if len(volumes) > MAX_VOLUMES:
        raise VolumeError(f"there are more than {MAX_VOLUMES}")
    return volumes


def fill_in(volume: Volume, values: Mapping[str, str]) -> Volume:
    """Return a volume with its templates replaced.

    Args:
        volume: as it is stated.
        values: of `username` and `kernel_id`.

    Raises:
        VolumeError: braces stand for something else, or a folder of a user has one below it.
    """
    _check_folder(_folder_of(volume))
    stated = msgspec.structs.asdict(volume)
    filled = {name: _filled(value, values) for name, value in stated.items()}
    return msgspec.structs.replace(volume, **filled)


def mounts_of(volumes: Iterable[Volume], policy: HostPolicy) -> tuple[Mount, ...]:
    """Return the mounts of volumes without templates.

    Raises:
        VolumeError: a volume is malformed or not allowed, or two are in one place.
    """
    mounts: dict[str, Mount] = {}
    for volume in volumes:
        _check_target(volume.target)
        if volume.target in mounts:
            raise VolumeError(f"two volumes have the target {volume.target}")
        mounts[volume.target] = _mount(volume, policy)
    return tuple(mounts.values())


def tmpfs(target: str, size: str | int) -> Mount:
    """Return the mount of a file system in memory.

    Raises:
        VolumeError: the size is none.
    """
    options = TmpfsOptions(_size(size)) if size != "" else None
    return Mount(target, "tmpfs", tmpfs_options=options)


def _mount(volume: Volume, policy: HostPolicy) -> Mount:
    match volume:
        case Tmpfs():
            return msgspec.structs.replace(
                tmpfs(volume.target, volume.size), read_only=volume.read_only
            )
        case Bind():
            try:
                source = check_host_path(volume.source, policy.roots, policy.sockets)
            except PathError as exc:
                raise VolumeError(f"{volume.source!r} {exc}") from exc
            return Mount(volume.target, "bind", source, volume.read_only)
        case Nfs():
            return _nfs_mount(volume)
        case NamedVolume():
            return _volume_mount(volume)


def _volume_mount(volume: NamedVolume) -> Mount:
    if not _NAME.fullmatch(volume.source):
        raise VolumeError(f"{volume.source!r} is not the name of a volume")
    if volume.source.lower().startswith(OWN_PREFIX):
        raise VolumeError(f"{volume.source!r} is the name of a volume of the gateway's own")
    if not volume.driver and not volume.options:
        return Mount(volume.target, "volume", volume.source, volume.read_only)
    driver = volume.driver or "local"
    if not _PLUGIN.fullmatch(driver):
        raise VolumeError(f"{driver!r} is not the name of a volume driver")
    if driver == "local":
        _check_local_options(volume.options)
    # A server that squashes root refuses what the engine would copy from the image, and its owner.
    is_remote = driver == "local" and volume.options.get("type") in _NETWORK_FILE_SYSTEMS
    config = DriverConfig(driver, volume.options)
    options = VolumeOptions(driver_config=config, no_copy=is_remote)
    return Mount(volume.target, "volume", volume.source, volume.read_only, options)


def _check_local_options(options: Mapping[str, str]) -> None:
    """Allow what the driver `local` can do that is no way to the host's files.

    It passes its options to mount(2), so that it can bind any folder and mount any disk.
    """
    if not options.keys() <= {"type", "o", "device"}:
        raise VolumeError("the driver 'local' has the options type, o and device only")
    flags = {flag.strip().partition("=")[0].lower() for flag in options.get("o", "").split(",")}
    if options and options.get("type") not in _FILE_SYSTEMS:
        raise VolumeError(
            f"the driver 'local' may only be given the types {', '.join(_FILE_SYSTEMS)}; "
            "a folder of the host is a volume of type 'bind'"
        )
    if flags & _LOCAL_FLAGS:
        raise VolumeError(f"the mount option {min(flags & _LOCAL_FLAGS)} is not allowed")


def _nfs_mount(volume: Nfs) -> Mount:
    if not _HOST.fullmatch(volume.server):
        raise VolumeError(f"{volume.server!r} is not the name or address of an NFS server")
    parts = volume.path.split("/")
    if not volume.path.startswith("/") or ".." in parts or not volume.path.isprintable():
        raise VolumeError(f"the NFS folder {volume.path!r} is not an absolute path without '..'")
    flags = [flag for flag in volume.options.split(",") if flag]
    names = {flag.partition("=")[0].strip().lower() for flag in flags}
    if names & _LOCAL_FLAGS or names & {"addr", "ro", "rw"} or not volume.options.isprintable():
        raise VolumeError(
            f"the NFS options {volume.options!r} are not allowed: server and read_only say where "
            "and how it is mounted"
        )
    mode = "ro" if volume.read_only else "rw"
    options = {
        "type": "nfs",
        "o": ",".join([f"addr={volume.server}", mode, *flags]),
        "device": f":{volume.path}",
    }
    # Docker keeps a volume's options, and uses the volume whatever options are asked for later.
    digest = hashlib.sha256(msgspec.json.encode(options)).hexdigest()[:_DIGEST_CHARS]
    labels = {"app": "enterprise-gateway", "component": "volume"}
    return Mount(
        volume.target,
        "volume",
        f"{OWN_PREFIX}-nfs-{digest}",
        volume.read_only,
        VolumeOptions(labels, DriverConfig("local", options), no_copy=True),
    )


def _folder_of(volume: Volume) -> str:
    match volume:
        case Bind():
            return volume.source
        case Nfs():
            return volume.path
        case NamedVolume():
            return volume.options.get("device", "")
        case Tmpfs():
            return ""


def _check_folder(folder: str) -> None:
    if has_folder_below_user(folder):
        raise VolumeError(f"{folder[:200]!r}: {BELOW_USER}")


def _check_target(target: str) -> None:
    parts = target.split("/")[1:]
    if not target.startswith("/") or not target.isprintable() or {"", ".", ".."} & set(parts):
        raise VolumeError(
            f"the target {target[:200]!r} is not an absolute path of a folder below /, without "
            "'.', '..' and a slash at its end"
        )
    for reserved in _RESERVED_TARGETS:
        if is_in(target, reserved):
            advice = " (shm_size sets the size of /dev/shm)" if target == "/dev/shm" else ""  # noqa: S108 - not written
            raise VolumeError(f"the target {target} is in {reserved}, which stays as it is{advice}")


def _size(stated: str | int) -> int:
    size = read_size(str(stated))
    if not size:
        raise VolumeError(
            f"the size {str(stated)[:100]!r} is not a number of bytes, such as 536870912, 512m or "
            "2g"
        )
    return size


def _filled(value: object, values: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _filled(item, values) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    try:
        return replace_templates(value, values)
    except TemplateError as exc:
        raise VolumeError(str(exc)) from exc
