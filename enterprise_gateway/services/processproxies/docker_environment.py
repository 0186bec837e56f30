"""The environment of Docker launch scripts, most of which they pass on to the container."""

import json
import os
from collections.abc import Mapping
from enum import Enum

from enterprise_gateway._version import __version__
from enterprise_gateway.errors import ConfigurationError, ForbiddenError
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.names import workload_name
from enterprise_gateway.services.processproxies.port_range import resolve_port_range
from enterprise_gateway.settings import DockerSettings, Settings

DEFAULT_IMAGE = f"enterprise-gateway/kernel-py:{__version__}"
AGENT_VOLUME = "EG_AGENT_VOLUME"
"""Variable with the name of the volume that a container without an agent is to mount."""
AGENT_CONFIG = "EG_AGENT_CONFIG"
"""Variable with id and name (`ID:NAME`) of the config that such a service is to mount."""
DEFAULT_UID = "1000"
DEFAULT_GID = "100"
_MAX_ID = 4294967295
"""Largest uid_t and gid_t on Linux."""


class DockerMode(Enum):
    """What the launch script makes: `EG_DOCKER_MODE`."""

    DOCKER = "docker"
    SWARM = "swarm"


def launch_environment(
    request: LaunchRequest, settings: Settings, docker_mode: DockerMode
) -> dict[str, str]:
    """Return the environment of the launch script, complete but for `AGENT_VOLUME` and its like.

    Raises:
        ForbiddenError: KERNEL_UID or KERNEL_GID is none, or prohibited.
        ConfigurationError: the port range is malformed, or the kernelspec contradicts itself.
    """
    kernels = settings.kernels
    env = {
        "PATH": os.pathsep.join(os.get_exec_path()),
        **settings.docker.launch_env,
        **request.env,
        **_engine_address(settings.docker),
        "EG_AGENT_SETTINGS": json.dumps(dict(request.agent_settings)),
        "EG_AGENT_TOKEN": request.agent_token,
        "EG_CLUSTER_ID": settings.cluster_id,
        "EG_CONTAINER_NAME": workload_name(request.username, request.kernel_id),
        "EG_DOCKER_MODE": docker_mode.value,
        "EG_DOCKER_NETWORK": settings.docker.network,
        "EG_MAX_PORT_RANGE_RETRIES": str(kernels.max_port_range_retries),
        "EG_MIN_PORT_RANGE_SIZE": str(kernels.min_port_range_size),
        "KERNEL_GID": _checked_id("GID", request.env, DEFAULT_GID, kernels.prohibited_gids),
        "KERNEL_ID": request.kernel_id,
        "KERNEL_IMAGE": choose_image(request, settings.docker),
        "KERNEL_LAUNCH_TIMEOUT": f"{request.timeout:g}",
        "KERNEL_UID": _checked_id("UID", request.env, DEFAULT_UID, kernels.prohibited_uids),
        "KERNEL_USERNAME": request.username,
        "PORT_RANGE": resolve_port_range(request.config, kernels),
    }
    if env.get("DOCKER_MODE", docker_mode.value).lower() != docker_mode.value:
        raise ConfigurationError(
            f"DOCKER_MODE is '{env['DOCKER_MODE']}', but class_name is that of mode "
            f"'{docker_mode.value}'. Change class_name, or remove DOCKER_MODE, in kernel.json."
        )
    env.setdefault("EG_REMOVE_CONTAINER", str(settings.docker.remove_container))
    if not settings.docker.mirror_working_dirs:
        env.pop("KERNEL_WORKING_DIR", None)
    for name in (AGENT_VOLUME, AGENT_CONFIG):  # nobody's but the process proxy's
        env.pop(name, None)
    return env


def choose_image(request: LaunchRequest, settings: DockerSettings) -> str:
    """Return the image that a kernel runs in: the request's, the kernelspec's, the settings'."""
    stated = request.env.get("KERNEL_IMAGE") or request.config.get("image_name")
    return str(stated or settings.kernel_image or DEFAULT_IMAGE)


def _checked_id(kind: str, env: Mapping[str, str], default: str, prohibited: frozenset[int]) -> str:
    stated = env.get(f"KERNEL_{kind}", default)
    try:
        number = int(stated)
    except ValueError as exc:
        raise ForbiddenError(
            f"Invalid KERNEL_{kind} value '{stated}': not a valid integer!"
        ) from exc
    if not 0 <= number <= _MAX_ID:
        raise ForbiddenError(
            f"Invalid KERNEL_{kind} value '{stated}': must be in range 0-{_MAX_ID}!"
        )
    if number in prohibited:
        raise ForbiddenError(
            f"Kernel's {kind} value of '{stated}' has been denied via EG_PROHIBITED_{kind}S!"
        )
    return str(number)


def _engine_address(settings: DockerSettings) -> dict[str, str]:
    """Point the script at the engine that the gateway uses, whatever the kernel's environment says.

    An empty value is what the Docker SDK takes for none.
    """
    return {
        "DOCKER_CERT_PATH": settings.cert_path,
        "DOCKER_HOST": settings.host,
        "DOCKER_TLS_VERIFY": "1" if settings.tls_verify else "",
    }
