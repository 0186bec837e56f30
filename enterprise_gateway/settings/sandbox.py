"""Settings of what kernels' containers and services may do and see."""

from dataclasses import dataclass
from functools import partial

from enterprise_gateway.settings import parse
from enterprise_gateway.settings.option import option
from enterprise_gateway.settings.values.volume_permission import VolumePermission, parse_permissions


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Security, volumes and networks of containers and services.

    Kernelspecs may state their own security: `security` in `metadata.process_proxy.config`.
    """

    drop_capabilities: bool = option(
        "Take all Linux capabilities from kernels.",
        default=True,
        env=("EG_DROP_CAPABILITIES",),
    )
    no_new_privileges: bool = option(
        "Keep kernels from gaining privileges by setuid programs. For services the engine must be"
        " Docker 25 or newer; older ones ignore it.",
        default=True,
        env=("EG_NO_NEW_PRIVILEGES",),
    )
    primary_group: bool = option(
        "Make KERNEL_GID the primary group of kernels. If false the image decides, which means"
        " group 0 for a user id that it does not know.",
        default=True,
        env=("EG_PRIMARY_GROUP",),
    )
    block_metadata: bool = option(
        "Keep kernels' containers from the metadata service of a cloud, by having its address"
        " (169.254.169.254) themselves. Services cannot: their nodes need a rule of iptables. False"
        " where that address is also the name server, as on Google Cloud.",
        default=True,
        env=("EG_BLOCK_METADATA",),
    )
    read_only_root: bool = option(
        "Make the root file system of kernels read-only; /tmp is then in memory.",
        default=False,
        env=("EG_READ_ONLY_ROOT",),
    )
    container_runtime: str = option(
        "Name of the runtime of kernels' containers, such as 'runsc' for gVisor. By default the"
        " engine's. For services it is the nodes' default-runtime that counts.",
        default="",
        env=("EG_CONTAINER_RUNTIME",),
    )
    container_log_driver: str = option(
        "Log driver of kernels' containers and sidecars; empty for the engine's own, with the"
        " engine's limits.",
        default="json-file",
        env=("EG_CONTAINER_LOG_DRIVER",),
    )
    container_log_max_size: str = option(
        "Size at which the log of a kernel's container is rotated, for the drivers 'json-file' and"
        " 'local'.",
        default="10m",
        parse=parse.size,
        env=("EG_CONTAINER_LOG_MAX_SIZE",),
    )
    container_log_max_files: int = option(
        "Number of files of that size that are kept.",
        default=3,
        low=1,
        env=("EG_CONTAINER_LOG_MAX_FILES",),
    )
    allowed_volume_roots: tuple[str, ...] = option(
        "Folders of the engine's host which kernels may have as volumes, with all that is in them."
        " By default none.",
        default=(),
        takes=list[str],
        parse=partial(parse.folders, "allowed_volume_roots"),
        env=("EG_ALLOWED_VOLUME_ROOTS",),
    )
    request_volumes: tuple[VolumePermission, ...] = option(
        "What requests may mount with KERNEL_VOLUMES and KERNEL_VOLUME_MOUNTS: 'tmpfs',"
        " 'volume:PATTERN', 'bind:/FOLDER' (also in `allowed_volume_roots`) and"
        " 'nfs:SERVER:/FOLDER', of which a folder stands for itself only; ':ro' at the end:"
        " read-only. '{username}' is the user's name as in names of containers, in the last part"
        " of a folder's path, and with '.' or '_' between it and the '*' of a pattern. By default"
        " nothing.",
        default=(),
        takes=list[str],
        parse=parse_permissions,
        env=("EG_REQUEST_VOLUMES",),
    )
    secrets_folder: str = option(
        "Folder of the engine's host with a file for each secret that kernelspecs may give to"
        " containers. Services get secrets of the Swarm.",
        default="",
        parse=partial(parse.folder, "secrets_folder"),
        env=("EG_SECRETS_FOLDER",),
    )
    internal_network: str = option(
        "Docker network without a way out (`docker network create --internal`), for kernelspecs"
        " whose 'network' is 'internal' or 'none'. The gateway must be in it.",
        default="",
        env=("EG_INTERNAL_NETWORK",),
    )
