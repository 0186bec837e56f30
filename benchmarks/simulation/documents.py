"""What the engine says of its kernels: JSON of the Docker Engine API 1.41. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from benchmarks.simulation.kernel import NETWORK, Place, SimulatedKernel, format_time

Document: TypeAlias = dict[str, object]
RUNNING = "running"
NETWORK_NAME = "bench"
NETWORK_ID = "benchnetwork0000000000000"
NODE_IDS = tuple(f"benchnode{number}000000000000000" for number in range(1, 4))
VERSION: Document = {
    "Version": "20.10.24",
    "ApiVersion": "1.41",
    "MinAPIVersion": "1.12",
    "Os": "linux",
    "Arch": "amd64",
}
IMAGE: Document = {"Config": {"Labels": {"enterprise-gateway.agent": "1"}}}
"""Every image: one that needs no agent of the gateway's."""


def info(place: Place) -> Document:
    """`GET /info`: whether this engine is a manager of a Swarm."""
    is_manager = place is Place.SERVICES
    return {
        "Name": "node1",
        "ServerVersion": VERSION["Version"],
        "Swarm": {
            "NodeID": NODE_IDS[0] if is_manager else "",
            "LocalNodeState": "active" if is_manager else "inactive",
            "ControlAvailable": is_manager,
        },
    }


def network(place: Place) -> Document:
    """`GET /networks/NAME`."""
    is_overlay = place is Place.SERVICES
    return {
        "Name": NETWORK_NAME,
        "Id": NETWORK_ID,
        "Scope": "swarm" if is_overlay else "local",
        "Driver": "overlay" if is_overlay else "bridge",
        "Attachable": is_overlay,
        "IPAM": {"Config": [{"Subnet": NETWORK, "Gateway": "127.0.0.1"}]},
    }


def nodes() -> list[Document]:
    """`GET /nodes`."""
    return [
        {
            "ID": node_id,
            "Spec": {"Role": "manager" if number == 1 else "worker", "Availability": "active"},
            "Description": {"Hostname": f"node{number}"},
            "Status": {"State": "ready", "Addr": f"10.0.0.{number}"},
        }
        for number, node_id in enumerate(NODE_IDS, 1)
    ]


def container(kernel: SimulatedKernel) -> Document:
    """An entry of `GET /containers/json`."""
    return {
        "Id": kernel.engine_id,
        "Names": [f"/{kernel.name}"],
        "Image": "localhost/enterprise-gateway/kernel-py",
        "ImageID": f"sha256:{'0' * 64}",
        "Command": "tini -- /usr/local/bin/bootstrap-kernel.sh",
        "Created": int(kernel.created),
        "Ports": [],
        "Labels": kernel.labels,
        "State": "running" if kernel.is_running else "created",
        "Status": "Up 1 minute" if kernel.is_running else "Created",
        "HostConfig": {"NetworkMode": NETWORK_NAME},
        "NetworkSettings": {"Networks": {NETWORK_NAME: _attachment(kernel)}},
        "Mounts": [],
    }


def inspected_container(kernel: SimulatedKernel) -> Document:
    """`GET /containers/ID/json`, what of it counts."""
    return {
        "Id": kernel.engine_id,
        "Name": f"/{kernel.name}",
        "Created": format_time(kernel.created),
        "State": {"Status": "running" if kernel.is_running else "created"},
        "Config": {"Env": kernel.env, "Labels": kernel.labels},
        "NetworkSettings": {"Networks": {NETWORK_NAME: _attachment(kernel)}},
    }


def container_event(kernel: SimulatedKernel, action: str, seconds: float) -> Document:
    """A line of `GET /events` about a container."""
    attributes = {**kernel.labels, "name": kernel.name}
    return {
        "Type": "container",
        "Action": action,
        "Actor": {"ID": kernel.engine_id, "Attributes": attributes},
        "scope": "local",
        "time": int(seconds),
        "timeNano": int(seconds * 1e9),
    }


def service(kernel: SimulatedKernel) -> Document:
    """An entry of `GET /services`, and `GET /services/ID`."""
    return {
        "ID": _service_id(kernel),
        **_meta(kernel),
        "Spec": {
            "Name": kernel.name,
            "Labels": kernel.labels,
            "TaskTemplate": _task_template(kernel),
            "Mode": {"Replicated": {"Replicas": 1}},
            "EndpointSpec": {"Mode": "dnsrr"},
        },
        "Endpoint": {"Spec": {"Mode": "dnsrr"}},
    }


def task(kernel: SimulatedKernel) -> Document:
    """An entry of `GET /tasks`."""
    return {
        "ID": f"benchtask{kernel.number:016x}",
        **_meta(kernel),
        "Labels": {},
        "Spec": _task_template(kernel),
        "ServiceID": _service_id(kernel),
        "Slot": 1,
        "NodeID": NODE_IDS[kernel.number % len(NODE_IDS)],
        "Status": {
            "Timestamp": format_time(kernel.created),
            "State": "running",
            "Message": "started",
            "ContainerStatus": {"ContainerID": kernel.engine_id, "PID": 1, "ExitCode": 0},
            "PortStatus": {},
        },
        "DesiredState": RUNNING,
        "NetworksAttachments": [
            {
                "Network": {
                    "ID": NETWORK_ID,
                    **_meta(kernel),
                    "Spec": {
                        "Name": NETWORK_NAME,
                        "Labels": {},
                        "DriverConfiguration": {"Name": "overlay"},
                        "Attachable": True,
                        "IPAMOptions": {"Driver": {"Name": "default"}},
                        "Scope": "swarm",
                    },
                    "DriverState": {"Name": "overlay", "Options": {}},
                    "IPAMOptions": {"Configs": [{"Subnet": NETWORK, "Gateway": "127.0.0.1"}]},
                },
                "Addresses": [f"{kernel.address}/8"],
            }
        ],
    }


def service_event(kernel: SimulatedKernel, action: str, seconds: float) -> Document:
    """A line of `GET /events` about a service: it carries no labels."""
    return {
        "Type": "service",
        "Action": action,
        "Actor": {"ID": _service_id(kernel), "Attributes": {"name": kernel.name}},
        "scope": "swarm",
        "time": int(seconds),
        "timeNano": int(seconds * 1e9),
    }


def select(
    kernels: Iterable[SimulatedKernel], filters: Mapping[str, Sequence[str]]
) -> list[SimulatedKernel]:
    """Apply the filters of a list call; tasks are chosen by the labels of their service.

    Args:
        kernels: all.
        filters: values by name, of which each kernel must have: all labels, one of the names, ids
            or services. Tasks are all wanted to run.
    """
    if RUNNING not in filters.get("desired-state", [RUNNING]):
        return []
    labels = [label.partition("=") for label in filters.get("label", ())]
    names = {name for key in ("name", "id", "service") for name in filters.get(key, ())}
    return [
        kernel
        for kernel in kernels
        if all(
            key in kernel.labels and (not equals or kernel.labels[key] == value)
            for key, equals, value in labels
        )
        and (not names or not names.isdisjoint({kernel.name, _service_id(kernel)}))
    ]


def parse_filters(text: str) -> dict[str, list[str]]:
    """Decode the parameter `filters`: lists, or objects whose values are true, as older clients."""
    return {key: list(values) for key, values in json.loads(text or "{}").items()}


def _service_id(kernel: SimulatedKernel) -> str:
    return f"benchservice{kernel.number:013x}"


def _meta(kernel: SimulatedKernel) -> Document:
    created = format_time(kernel.created)
    return {"Version": {"Index": kernel.number}, "CreatedAt": created, "UpdatedAt": created}


def _attachment(kernel: SimulatedKernel) -> Document:
    return {
        "NetworkID": NETWORK_ID,
        "EndpointID": "0" * 64,
        "Gateway": "127.0.0.1",
        "IPAddress": kernel.address if kernel.is_running else "",
        "IPPrefixLen": 8,
        "MacAddress": "02:42:ac:11:00:02",
    }


def _task_template(kernel: SimulatedKernel) -> Document:
    return {
        "ContainerSpec": {
            "Image": "localhost/enterprise-gateway/kernel-py",
            "Labels": kernel.labels,
            "Hostname": kernel.name,
            "Env": kernel.env,
            "User": "1000",
            "Groups": ["100"],
            "Isolation": "default",
        },
        "Resources": {"Limits": {}, "Reservations": {}},
        "RestartPolicy": {"Condition": "none", "MaxAttempts": 0},
        "Placement": {},
        "Networks": [{"Target": NETWORK_ID}],
        "ForceUpdate": 0,
        "Runtime": "container",
    }
