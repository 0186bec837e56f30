"""What a companion is made from: the agent of a kernel into whose container none could be put.

Pure: what is said here to the engine is `POST /containers/create` and `POST /services/create` (API
1.41). Labels are the kernel's own, so that whoever looks for the kernel finds both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from enterprise_gateway._version import __version__
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.couples import COMPANION_LABEL
from enterprise_gateway.services.processproxies.docker_workloads import (
    CLUSTER_LABEL,
    KERNEL_LABELS,
)
from enterprise_gateway.services.processproxies.engine_watch import Sighting
from enterprise_gateway.services.processproxies.names import companion_name
from enterprise_gateway.services.processproxies.responses import ResponseEndpoint
from enterprise_gateway.services.processproxies.swarm_workloads import literal

DEFAULT_COMPANION_IMAGE = f"enterprise-gateway/enterprise-gateway:{__version__}"
_ENTRYPOINT = ("python3", "-I", "-m", "kernel_agent")
_COMMAND = ("--attach",)
_USER = "1000:100"
_PASSED_ON = ("EG_AGENT_SETTINGS", "EG_AGENT_TOKEN", "KERNEL_ID", "KERNEL_LAUNCH_TIMEOUT")


@dataclass(frozen=True, slots=True)
class Companion:
    """One companion, whatever kind of workload it is to be."""

    name: str
    image: str
    network: str
    labels: Mapping[str, str]
    environment: Mapping[str, str] = field(repr=False)


def plan_companion(
    request: LaunchRequest,
    script_env: Mapping[str, str],
    kernel: Sighting,
    kernel_labels: Mapping[str, str],
    attachment: str,
    endpoint: ResponseEndpoint,
    *,
    image: str,
    network: str,
) -> Companion:
    """Return the companion of a kernel.

    Args:
        request: the kernel's launch.
        script_env: what its launch script was told.
        kernel: its container or service.
        kernel_labels: what its launch script labelled that with.
        attachment: `EG_AGENT_ATTACH` of the wire contract.
        endpoint: where the companion reports.
        image: an image with the agent; "": the gateway's own.
        network: name of the kernels' network.
    """
    own = {label.partition("=")[0] for label in KERNEL_LABELS} | {"kernel_id", CLUSTER_LABEL}
    return Companion(
        name=companion_name(kernel.workload.name, request.kernel_id),
        image=image or DEFAULT_COMPANION_IMAGE,
        network=network,
        labels={
            **{name: value for name, value in kernel_labels.items() if name in own},
            COMPANION_LABEL: kernel.engine_id,
        },
        environment={
            **{name: script_env[name] for name in _PASSED_ON},
            "EG_AGENT_ATTACH": attachment,
            "KERNEL_USERNAME": request.username,
            "PUBLIC_KEY": endpoint.public_key,
            "RESPONSE_ADDRESS": endpoint.address,
        },
    )


def container_config(companion: Companion) -> dict[str, Any]:
    """Return the body of `POST /containers/create`.

    The engine keeps it when it has ended, since its end is what tells that the kernel is of no use.
    """
    return {
        "Image": companion.image,
        "Entrypoint": _ENTRYPOINT,
        "Cmd": _COMMAND,
        "User": _USER,
        "WorkingDir": "/",
        "Env": [f"{name}={value}" for name, value in companion.environment.items()],
        "Labels": companion.labels,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": companion.network,
            "SecurityOpt": ["no-new-privileges"],
            "CapDrop": ["ALL"],
        },
    }


def service_spec(companion: Companion) -> dict[str, Any]:
    """Return the body of `POST /services/create`."""
    environment = [literal(f"{name}={value}") for name, value in companion.environment.items()]
    return {
        "Name": companion.name,
        "Labels": companion.labels,
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": companion.image,
                "Command": _ENTRYPOINT,
                "Args": _COMMAND,
                "User": _USER,
                "Dir": "/",
                "Env": environment,
                "Labels": companion.labels,
                "CapabilityDrop": ["ALL"],
                "Privileges": {"NoNewPrivileges": True},
                "HealthCheck": {"Test": ["NONE"]},
            },
            "RestartPolicy": {"Condition": "none"},
            "Networks": [{"Target": companion.network}],
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Mode": "dnsrr"},
    }
