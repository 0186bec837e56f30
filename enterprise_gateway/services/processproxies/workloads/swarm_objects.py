"""The fields of Swarm's services, tasks and nodes that gateways use (API 1.41)."""

from datetime import datetime

import msgspec

from enterprise_gateway.services.processproxies.workloads.containers import (
    LAUNCH_LABEL,
    POOL_LABEL,
)
from enterprise_gateway.services.processproxies.workloads.sidecars import SIDECAR_LABEL

OWNER_LABEL = "enterprise-gateway.owner"
"""The escaped name of the user who took the kernel from its pool."""


class _SwarmObject(msgspec.Struct, frozen=True, rename="pascal"):
    """An object of the API; other fields than those declared are ignored."""


class ContainerSpec(_SwarmObject, frozen=True):
    """The specification of the service's container."""

    env: list[str] | None = None
    image: str = ""


class Limits(_SwarmObject, frozen=True):
    """The resource limits of the service's container; 0 means no limit."""

    memory_bytes: int = 0


class Resources(_SwarmObject, frozen=True):
    """The resources of the service's container."""

    limits: Limits = Limits()


class TaskTemplate(_SwarmObject, frozen=True):
    """The specification of the service's task."""

    container_spec: ContainerSpec = ContainerSpec()
    resources: Resources = Resources()


class ServiceSpec(_SwarmObject, frozen=True):
    """The specification of a service."""

    name: str
    labels: dict[str, str] | None = None
    task_template: TaskTemplate = TaskTemplate()


class Service(_SwarmObject, frozen=True):
    """An entry of `GET /services`."""

    id: str = msgspec.field(name="ID")
    created_at: str
    """RFC 3339 with nanoseconds, by the leader's clock."""
    spec: ServiceSpec

    @property
    def kernel_id(self) -> str:
        """The kernel's id, "" if the label is missing."""
        return (self.spec.labels or {}).get("kernel_id", "")

    @property
    def launch_id(self) -> str:
        """The id of the kernel's launch, "" if the label is missing."""
        return (self.spec.labels or {}).get(LAUNCH_LABEL, "")

    @property
    def pool(self) -> str:
        """The pool that the kernel was launched for, "" if the label is missing."""
        return (self.spec.labels or {}).get(POOL_LABEL, "")

    @property
    def owner(self) -> str:
        """The user who took the kernel from its pool, escaped; "" if the label is missing."""
        return (self.spec.labels or {}).get(OWNER_LABEL, "")

    @property
    def sidecar_of(self) -> str:
        """For a sidecar: the id of the kernel's service; else ""."""
        return (self.spec.labels or {}).get(SIDECAR_LABEL, "")

    @property
    def created(self) -> float:
        """Seconds since the epoch."""
        return datetime.fromisoformat(self.created_at).timestamp()


class ContainerStatus(_SwarmObject, frozen=True):
    """The exit code of the task's container, 0 while it runs."""

    container_id: str = msgspec.field(default="", name="ContainerID")
    exit_code: int = 0


class TaskStatus(_SwarmObject, frozen=True):
    """The last report of the task's node."""

    state: str
    message: str = ""
    err: str = ""
    container_status: ContainerStatus | None = None


class NetworkSpec(_SwarmObject, frozen=True):
    """The specification of a network."""

    name: str = ""


class AttachedNetwork(_SwarmObject, frozen=True):
    """A network that a task is attached to."""

    spec: NetworkSpec = NetworkSpec()


class NetworkAttachment(_SwarmObject, frozen=True):
    """A task's addresses in a network."""

    network: AttachedNetwork = AttachedNetwork()
    addresses: list[str] | None = None
    """With the network's prefix length, as `10.0.1.7/24`."""


class Task(_SwarmObject, frozen=True):
    """An entry of `GET /tasks`."""

    created_at: str
    service_id: str = msgspec.field(name="ServiceID")
    desired_state: str
    status: TaskStatus
    node_id: str = msgspec.field(default="", name="NodeID")
    networks_attachments: list[NetworkAttachment] | None = None


class NodeStatus(_SwarmObject, frozen=True):
    """The managers' view of a node."""

    state: str


class NodeDescription(_SwarmObject, frozen=True):
    """A node's description of itself."""

    hostname: str = ""


class NodeSpec(_SwarmObject, frozen=True):
    """The operator's settings for a node."""

    availability: str = "active"


class Node(_SwarmObject, frozen=True):
    """An entry of `GET /nodes`."""

    id: str = msgspec.field(name="ID")
    status: NodeStatus
    description: NodeDescription = NodeDescription()
    spec: NodeSpec = NodeSpec()

    @property
    def takes_tasks(self) -> bool:
        """Whether Swarm gives it tasks now."""
        return self.status.state == "ready" and self.spec.availability == "active"
