"""Mounts as the Docker Engine API has them (1.41: `Mount` of containers and of services). Pure."""

import msgspec


class DriverConfig(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """The volume plugin that makes a volume, and what it is told."""

    name: str
    options: dict[str, str] = {}


class VolumeOptions(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """How the engine makes a volume that is not there yet."""

    labels: dict[str, str] = {}
    driver_config: DriverConfig | None = None
    no_copy: bool = False


class TmpfsOptions(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """How large a file system in memory may become."""

    size_bytes: int = 0


class Mount(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """One mount; its JSON is what the API takes."""

    target: str
    type: str = ""
    source: str = ""
    read_only: bool = False
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
