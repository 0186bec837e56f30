"""How far a kernel's container is confined: `security` of a kernelspec, over the settings. Pure."""

from typing import Annotated, Literal

import msgspec

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import SandboxSettings
from enterprise_gateway.settings.values.sizes import DOCKER_LOG_SIZE

SIZED_LOG_DRIVERS = ("json-file", "local")
"""Log drivers of Docker that rotate files: https://docs.docker.com/engine/logging/configure/."""

_Capability = Annotated[str, msgspec.Meta(pattern="^[A-Z_]{1,40}$")]
_Word = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_./-]{0,100}$")]
_Size = Annotated[str, msgspec.Meta(pattern=rf"\A{DOCKER_LOG_SIZE}\Z")]


class Security(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`metadata.process_proxy.config.security`, complete."""

    drop_capabilities: bool
    capabilities: tuple[_Capability, ...] = ()
    """Those that stay although the others are dropped, without `CAP_`."""
    no_new_privileges: bool
    primary_group: bool
    block_metadata: bool
    """Not for services, which Swarm gives no such address."""
    read_only: bool
    seccomp: Literal["default", "unconfined"] = "default"
    runtime: _Word
    """"": the engine's default."""
    log_driver: _Word
    """"": the engine's own, with its limits."""
    log_max_size: _Size
    log_max_files: Annotated[int, msgspec.Meta(ge=1, le=1000)]


def choose_security(
    stated: object, settings: SandboxSettings, where: str, *, is_service: bool
) -> Security:
    """Return how a container is confined.

    Args:
        stated: the kernelspec's `security`, an object with any of the fields of `Security`.
        settings: decide what the kernelspec does not state.
        where: the kernelspec, for the error.
        is_service: whether Swarm makes the container.

    Raises:
        ConfigurationError: the kernelspec's is wrong, or services cannot have it.
    """
    if not isinstance(stated, dict):
        raise ConfigurationError(
            f'security {where} must be an object, such as {{"read_only": true}}.'
        )
    if "init" in stated:
        raise ConfigurationError(
            f"security.init {where} cannot be set: the kernel agent is process 1 and does the work "
            "of an init. Behind another one its token would be in /proc/1/environ, for kernels to "
            "read."
        )
    try:
        security = msgspec.convert({**_defaults(settings), **stated}, type=Security)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"security {where} is wrong: {exc}.") from exc
    if is_service and stated.get("runtime"):
        raise ConfigurationError(
            f"security.runtime {where} cannot be set for services: Swarm uses the default-runtime "
            "of the node. Label nodes that have it, and let constraints of the launch script "
            "choose them."
        )
    if is_service and security.seccomp != "default":
        raise ConfigurationError(
            f"security.seccomp {where} cannot be set for services: Swarm uses the node's profile."
        )
    if is_service and stated.get("block_metadata"):
        raise ConfigurationError(
            f"security.block_metadata {where} cannot be set for services: Swarm gives them no such "
            "address. Close the metadata service on the nodes (docs/sandbox.md)."
        )
    return security


def _defaults(settings: SandboxSettings) -> dict[str, object]:
    return {
        "drop_capabilities": settings.drop_capabilities,
        "no_new_privileges": settings.no_new_privileges,
        "primary_group": settings.primary_group,
        "block_metadata": settings.block_metadata,
        "read_only": settings.read_only_root,
        "runtime": settings.container_runtime,
        "log_driver": settings.container_log_driver,
        "log_max_size": settings.container_log_max_size,
        "log_max_files": settings.container_log_max_files,
    }
