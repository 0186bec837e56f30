"""The bodies of the requests that create a sidecar as a container or a service. Pure (API 1.41)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from enterprise_gateway.services.processproxies.workloads.services import literal

_ENTRYPOINT = ("python3", "-I", "-m", "kernel_agent")
_COMMAND = ("--attach",)
_USER = "1000:100"
MEMORY_BYTES = 1 << 30
"""The least of which an agent takes all 64 MiB for the kernel's log in memory. The rest is for
messages, of which one takes three times its size while it is passed on."""
MAX_PIDS = 64
"""An agent is one process with a few threads."""
SPILL_FOLDER = "/tmp"  # noqa: S108 - in the sidecar
"""A volume without a name, which goes with the container: the part of the log that is on disk."""
_SPILL = {"Type": "volume", "Target": SPILL_FOLDER}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar to be created as a container or a service."""

    name: str
    image: str
    network: str
    labels: Mapping[str, str]
    """Those of its kernel and `SIDECAR_LABEL`, so that a search for the kernel finds both."""
    environment: Mapping[str, str] = field(repr=False)
    log_driver: str = ""
    """"": the engine's own."""
    log_options: Mapping[str, str] = field(default_factory=dict)


def container_config(sidecar: Sidecar) -> dict[str, Any]:
    """Return the body of `POST /containers/create`.

    The engine keeps the container when it has ended, because its end means that the kernel is dead.
    """
    log = _log(sidecar, "Type", "Config")
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
            "ReadonlyRootfs": True,
            "Mounts": [_SPILL],
            "Memory": MEMORY_BYTES,
            "MemorySwap": MEMORY_BYTES,
            "PidsLimit": MAX_PIDS,
            **({"LogConfig": log} if log else {}),
        },
    }


def service_spec(sidecar: Sidecar) -> dict[str, Any]:
    """Return the body of `POST /services/create`."""
    log = _log(sidecar, "Name", "Options")
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
                "ReadOnly": True,
                "Mounts": [_SPILL],
                "HealthCheck": {"Test": ["NONE"]},
            },
            "Resources": {"Limits": {"MemoryBytes": MEMORY_BYTES, "Pids": MAX_PIDS}},
            "RestartPolicy": {"Condition": "none"},
            "Networks": [{"Target": sidecar.network}],
            **({"LogDriver": log} if log else {}),
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def _log(sidecar: Sidecar, driver: str, options: str) -> dict[str, Any]:
    """Return where its output goes, by the names that this kind of workload has for it."""
    if not sidecar.log_driver:
        return {}
    return {driver: sidecar.log_driver, options: sidecar.log_options}
