"""The bodies of the requests that create a sidecar as a container or a service. Pure (API 1.41)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from enterprise_gateway.services.processproxies.workloads.services import literal

_ENTRYPOINT = ("python3", "-I", "-m", "kernel_agent")
_COMMAND = ("--attach",)
_USER = "1000:100"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar to be created as a container or a service."""

    name: str
    image: str
    network: str
    labels: Mapping[str, str]
    """Those of its kernel and `SIDECAR_LABEL`, so that a search for the kernel finds both."""
    environment: Mapping[str, str] = field(repr=False)


def container_config(sidecar: Sidecar) -> dict[str, Any]:
    """Return the body of `POST /containers/create`.

    The engine keeps the container when it has ended, because its end means that the kernel is dead.
    """
    return {
        "Image": sidecar.image,
        "Entrypoint": _ENTRYPOINT,
        "Cmd": _COMMAND,
        "User": _USER,
        "WorkingDir": "/",
        "Env": [f"{name}={value}" for name, value in sidecar.environment.items()],
        "Labels": sidecar.labels,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": sidecar.network,
            "SecurityOpt": ["no-new-privileges"],
            "CapDrop": ["ALL"],
        },
    }


def service_spec(sidecar: Sidecar) -> dict[str, Any]:
    """Return the body of `POST /services/create`."""
    environment = [literal(f"{name}={value}") for name, value in sidecar.environment.items()]
    return {
        "Name": sidecar.name,
        "Labels": sidecar.labels,
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": sidecar.image,
                "Command": _ENTRYPOINT,
                "Args": _COMMAND,
                "User": _USER,
                "Dir": "/",
                "Env": environment,
                "Labels": sidecar.labels,
                "CapabilityDrop": ["ALL"],
                "Privileges": {"NoNewPrivileges": True},
                "HealthCheck": {"Test": ["NONE"]},
            },
            "RestartPolicy": {"Condition": "none"},
            "Networks": [{"Target": sidecar.network}],
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Mode": "dnsrr"},
    }
