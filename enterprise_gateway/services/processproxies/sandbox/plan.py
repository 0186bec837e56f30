"""What one kernel's container may do and see, from kernelspec, request and settings. Pure."""

from collections.abc import Mapping

import msgspec

from enterprise_gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.sandbox.host_paths import check_host_path
from enterprise_gateway.services.processproxies.sandbox.mounts import Mount
from enterprise_gateway.services.processproxies.sandbox.networks import (
    NetworkChoice,
    choose_network,
)
from enterprise_gateway.services.processproxies.sandbox.request_volumes import (
    check_permitted,
    requested_volumes,
)
from enterprise_gateway.services.processproxies.sandbox.secrets import (
    Secret,
    choose_secrets,
    mount_secrets,
)
from enterprise_gateway.services.processproxies.sandbox.security import Security, choose_security
from enterprise_gateway.services.processproxies.sandbox.volumes import (
    Bind,
    HostPolicy,
    Volume,
    VolumeError,
    fill_in,
    mounts_of,
    parse_volumes,
    tmpfs,
)
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.settings import Settings
from enterprise_gateway.settings.values.volume_permission import USERNAME

TEMPORARY = "/tmp"  # noqa: S108 - in the container
TEMPORARY_BYTES = "512m"
_UNIX = "unix://"
_KEYS = ("security", "volumes", "network", "secrets")


class Sandbox(msgspec.Struct, frozen=True):
    """What a container may do and see; its JSON is `EG_SANDBOX`."""

    security: Security
    mounts: tuple[Mount, ...]
    secrets: tuple[Secret, ...]
    """Of the Swarm; those of a container are mounts."""
    dns: tuple[str, ...]
    is_stated: bool
    """Whether kernelspec or request ask for something, so that the script must apply it."""


class SandboxPlan(msgspec.Struct, frozen=True):
    """A sandbox, and what is left to be checked with the machine and the engine."""

    sandbox: Sandbox
    network: NetworkChoice
    binds: tuple[str, ...]
    """Folders of the host that the kernelspec states."""
    requested_binds: tuple[str, ...]
    """Folders of the host that the request asks for."""

    @property
    def variable(self) -> str:
        """The value of `EG_SANDBOX`."""
        return msgspec.json.encode(self.sandbox).decode()


def plan_sandbox(request: LaunchRequest, settings: Settings, *, is_service: bool) -> SandboxPlan:
    """Return what the kernel's container may do and see.

    Raises:
        ConfigurationError: the kernelspec is wrong, or asks for what the settings do not allow.
        InvalidRequestError: the volumes of the request are malformed.
        ForbiddenError: requests may not mount them.
    """
    config = request.config
    where = f"in metadata.process_proxy.config of kernelspec {request.kernel_name}"
    policy = host_policy(settings)
    security = choose_security(
        config.get("security", {}), settings.sandbox, where, is_service=is_service
    )
    network = choose_network(config.get("network", "default"), settings.sandbox, where)
    values = {"username": escape_username(request.username), "kernel_id": request.kernel_id}
    try:
        own = [fill_in(volume, values) for volume in parse_volumes(config.get("volumes", []))]
        mounts_of(own, policy)
    except VolumeError as exc:
        raise ConfigurationError(f"volumes {where}: {exc}.") from exc
    requested = _requested(request, settings, own, values)
    secrets = choose_secrets(config.get("secrets", []), values, where)
    mounts = mounts_of([*own, *requested], policy)
    if not is_service:
        mounts = (*mounts, *mount_secrets(secrets, settings.sandbox.secrets_folder, where))
        secrets = ()
    if security.read_only and all(mount.target != TEMPORARY for mount in mounts):
        mounts = (*mounts, tmpfs(TEMPORARY, TEMPORARY_BYTES))
    is_stated = bool(requested) or any(config.get(key) for key in _KEYS)
    return SandboxPlan(
        Sandbox(security, mounts, secrets, network.dns, is_stated),
        network,
        _binds(own, policy),
        _binds(requested, policy),
    )


def host_policy(settings: Settings) -> HostPolicy:
    """Return which folders of the host kernels may have, and which sockets the engine has."""
    host = settings.docker.host
    sockets = (host.removeprefix(_UNIX),) if host.startswith(_UNIX) else ()
    return HostPolicy(settings.sandbox.allowed_volume_roots, sockets)


def expect_poolable(request: LaunchRequest) -> None:
    """Raise `ConfigurationError` if kernels of the kernelspec cannot wait in a pool."""
    for key in ("volumes", "secrets"):
        if USERNAME in str(request.config.get(key, [])):
            raise ConfigurationError(
                f"its {key} contain {USERNAME}, and a container gets them when it is made, before "
                "it has a user. Remove pool_size, or that entry."
            )


def _requested(
    request: LaunchRequest, settings: Settings, own: list[Volume], values: Mapping[str, str]
) -> list[Volume]:
    """Return the volumes that the request asks for, checked together with the kernelspec's."""
    try:
        requested = [fill_in(volume, values) for volume in requested_volumes(request.env)]
    except VolumeError as exc:
        raise InvalidRequestError(f"KERNEL_VOLUMES: {exc}.") from exc
    try:
        for volume in requested:
            check_permitted(volume, settings.sandbox.request_volumes, values["username"])
        mounts_of([*own, *requested], host_policy(settings))
    except VolumeError as exc:
        raise ForbiddenError(f"KERNEL_VOLUMES: {exc}.") from exc
    return requested


def _binds(volumes: list[Volume], policy: HostPolicy) -> tuple[str, ...]:
    return tuple(
        check_host_path(volume.source, policy.roots, policy.sockets)
        for volume in volumes
        if isinstance(volume, Bind)
    )
