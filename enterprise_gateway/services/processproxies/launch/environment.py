"""The environment of Docker launch scripts, parts of which they pass on to the container."""

import json
import re
from collections.abc import Mapping
from enum import Enum

from enterprise_gateway._version import __version__
from enterprise_gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from enterprise_gateway.services.processproxies.config import read_config
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.engine.client import DEFAULT_HOST, is_encrypted
from enterprise_gateway.services.processproxies.engine.images import is_image_name
from enterprise_gateway.services.processproxies.injection.injector import (
    AGENT_CONFIG,
    AGENT_VOLUME,
    ENTRYPOINT,
)
from enterprise_gateway.services.processproxies.launch.kernelspec import resolve_port_range
from enterprise_gateway.services.processproxies.sandbox.plan import plan_sandbox
from enterprise_gateway.services.processproxies.scripts.server import KERNEL_ENV, SANDBOX
from enterprise_gateway.services.processproxies.workloads.names import workload_name
from enterprise_gateway.settings import DockerSettings, Settings, parse

DEFAULT_IMAGE = f"localhost/enterprise-gateway/kernel-py:{__version__}"
RESOURCES = "EG_RESOURCES"
"""The variable with what the kernel may take, `KernelResources.for_script`."""
AGENT_CERTIFICATE = "EG_AGENT_CERTIFICATE"
"""The variable with the key and certificate of an agent that speaks TLS."""
AGENT_LAUNCH = "EG_AGENT_LAUNCH"
"""The variable with `ID:TOKEN`: a label for the workload, and its agent's token."""
POOL = "EG_POOL"
"""The variable with the pool that the workload is labelled with."""
DEFAULT_UID = "1000"
DEFAULT_GID = "100"
_SCRIPTS_OWN = re.compile(r"KERNEL_.*|EG_.*|DOCKER_.*|REMOVE_CONTAINER", re.DOTALL)
"""The kernel's variables that launch scripts read; others are only for the container."""


class DockerMode(Enum):
    """The kind of workload that a launch script creates: `EG_DOCKER_MODE`."""

    DOCKER = "docker"
    SWARM = "swarm"


def launch_environment(
    request: LaunchRequest, settings: Settings, docker_mode: DockerMode
) -> dict[str, str]:
    """Return the environment of the launch script, without the variables of an injected agent.

    Variables of the kernel that a script does not read are in `KERNEL_ENV`: a proxy, certificate or
    home of the kernel must not affect the script.

    Raises:
        ForbiddenError: KERNEL_UID or KERNEL_GID is malformed or prohibited.
        InvalidRequestError: KERNEL_IMAGE is not an image name.
        ConfigurationError: the port range is malformed, or the kernelspec contradicts itself.
        ForbiddenError, InvalidRequestError, ConfigurationError: as `plan_sandbox`.
    """
    kernels = settings.kernels
    plan = plan_sandbox(request, settings, is_service=docker_mode is DockerMode.SWARM)
    own = {name: value for name, value in request.env.items() if _SCRIPTS_OWN.fullmatch(name)}
    others = {name: value for name, value in request.env.items() if name not in own}
    env = {
        "PATH": settings.host.executable_path,
        **settings.docker.launch_env,
        **own,
        **_engine_address(settings.docker),
        **_launch_variables(request),
        "EG_AGENT_SETTINGS": json.dumps(dict(request.agent_settings)),
        "EG_AGENT_TOKEN": request.agent_token,
        "EG_CLUSTER_ID": settings.cluster_id,
        "EG_CONTAINER_NAME": workload_name(request.username, request.kernel_id),
        "EG_DOCKER_MODE": docker_mode.value,
        "EG_DOCKER_NETWORK": settings.docker.network,
        KERNEL_ENV: json.dumps(others),
        "EG_MAX_PORT_RANGE_RETRIES": str(kernels.max_port_range_retries),
        "EG_MIN_PORT_RANGE_SIZE": str(kernels.min_port_range_size),
        "KERNEL_GID": _checked_id("GID", request.env, DEFAULT_GID, kernels.prohibited_gids),
        "KERNEL_ID": request.kernel_id,
        "KERNEL_IMAGE": choose_image(request, settings.docker),
        "KERNEL_LAUNCH_TIMEOUT": f"{request.timeout:g}",
        "KERNEL_UID": _checked_id("UID", request.env, DEFAULT_UID, kernels.prohibited_uids),
        "KERNEL_USERNAME": request.username,
        "PORT_RANGE": resolve_port_range(request.config, kernels),
        RESOURCES: request.resources.for_script(),
        SANDBOX: plan.variable,
    }
    if request.resources.amounts.gpus is not None:  # for scripts that know no EG_RESOURCES
        env["KERNEL_GPUS"] = str(request.resources.amounts.gpus)
    if plan.network.name:
        env["EG_DOCKER_NETWORK"] = plan.network.name
        env.pop("DOCKER_NETWORK", None)
    if env.get("DOCKER_MODE", docker_mode.value).lower() != docker_mode.value:
        raise ConfigurationError(
            f"DOCKER_MODE is '{env['DOCKER_MODE']}', but class_name is that of mode "
            f"'{docker_mode.value}'. Change class_name, or remove DOCKER_MODE, in kernel.json."
        )
    env.setdefault("EG_REMOVE_CONTAINER", str(settings.docker.remove_container))
    if not settings.docker.mirror_working_dirs:
        env.pop("KERNEL_WORKING_DIR", None)
    for name in (
        AGENT_VOLUME,
        AGENT_CONFIG,
        ENTRYPOINT,
        *(() if request.pool else (POOL,)),
        *(() if request.agent_certificate else (AGENT_CERTIFICATE,)),
    ):  # only the process proxy sets these
        env.pop(name, None)
    config = read_config(request.config, request.kernel_name)
    if config.entrypoint is not None:
        env[ENTRYPOINT] = config.entrypoint
    return env


def _launch_variables(request: LaunchRequest) -> dict[str, str]:
    """Return the variables that come with one launch, some of which become labels."""
    variables = {POOL: request.pool} if request.pool else {}
    if request.launch_id:
        variables[AGENT_LAUNCH] = f"{request.launch_id}:{request.launch_token}"
    if request.agent_certificate:
        variables[AGENT_CERTIFICATE] = request.agent_certificate
    return variables


def network_name(env: Mapping[str, str]) -> str:
    """Return the Docker network that a launch script with this environment uses."""
    return env.get("DOCKER_NETWORK") or env["EG_DOCKER_NETWORK"]


def choose_image(request: LaunchRequest, settings: DockerSettings) -> str:
    """Return the image that a kernel runs in: the request's, the kernelspec's, the settings'.

    Those of the kernelspec and the settings may be anything that the launch script understands.

    Raises:
        InvalidRequestError: KERNEL_IMAGE of the request is not an image name.
    """
    asked = request.env.get("KERNEL_IMAGE", "")
    if asked and not is_image_name(asked):
        raise InvalidRequestError(
            f"KERNEL_IMAGE is not an image name: {asked[:300]!r}. Image names look like "
            "team/image:tag, registry.example.org:5000/team/image:tag or image@sha256:DIGEST, in "
            "lower case except for the tag."
        )
    stated = asked or read_config(request.config, request.kernel_name).image_name
    return stated or settings.kernel_image or DEFAULT_IMAGE


def choose_pull_policy(request: LaunchRequest, settings: DockerSettings) -> str:
    """Return when a kernel's image is pulled: as the kernelspec says, else the settings.

    Raises:
        ConfigurationError: the kernelspec's is none.
    """
    stated = read_config(request.config, request.kernel_name).pull_policy
    return settings.pull_policy if stated is None else parse.pull_policy(stated)


def _checked_id(kind: str, env: Mapping[str, str], default: str, prohibited: frozenset[int]) -> str:
    stated = env.get(f"KERNEL_{kind}", default)
    try:
        number = int(stated)
    except ValueError as exc:
        raise ForbiddenError(
            f"Invalid KERNEL_{kind} value '{stated}': not a valid integer!"
        ) from exc
    if not 0 <= number <= parse.MAX_ID:
        raise ForbiddenError(
            f"Invalid KERNEL_{kind} value '{stated}': must be in range 0-{parse.MAX_ID}!"
        )
    if number in prohibited:
        raise ForbiddenError(
            f"Kernel's {kind} value of '{stated}' has been denied via EG_PROHIBITED_{kind}S!"
        )
    return str(number)


def _engine_address(settings: DockerSettings) -> dict[str, str]:
    """Return variables that make the script use the gateway's engine.

    All are set: without a host the Docker SDK would use the contexts of the docker command, and
    with only a folder of certificates it would use TLS. It treats empty values as unset.
    """
    host = settings.host or DEFAULT_HOST
    encrypted = is_encrypted(host, settings)
    return {
        "DOCKER_CERT_PATH": settings.cert_path if encrypted else "",
        "DOCKER_HOST": host,
        "DOCKER_TLS_VERIFY": "1" if encrypted else "",
    }
