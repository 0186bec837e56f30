"""What Swarm's API says of services, tasks and nodes, as far as it matters here (API 1.41)."""

from datetime import datetime

import msgspec

from enterprise_gateway.services.processproxies.couples import COMPANION_LABEL


class _SwarmObject(msgspec.Struct, frozen=True, rename="pascal"):
    """Fields as in the API; what is not listed is ignored."""


class ContainerSpec(_SwarmObject, frozen=True):
    """What the service's container is made from."""

    env: list[str] | None = None


class Limits(_SwarmObject, frozen=True):
    """What the service's container may use; 0: no limit."""

    memory_bytes: int = 0


class Resources(_SwarmObject, frozen=True):
    """What the service's container gets."""

    limits: Limits = Limits()


class TaskTemplate(_SwarmObject, frozen=True):
    """What the service's task is made from."""

    container_spec: ContainerSpec = ContainerSpec()
    resources: Resources = Resources()


class ServiceSpec(_SwarmObject, frozen=True):
    """What was asked for."""

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
    def companion_of(self) -> str:
        """The id of the service that it is the companion of, "" if it is none."""
        return (self.spec.labels or {}).get(COMPANION_LABEL, "")

    @property
    def created(self) -> float:
        """Seconds since the epoch."""
        return datetime.fromisoformat(self.created_at).timestamp()


class ContainerStatus(_SwarmObject, frozen=True):
    """How the task's container ended, if it did."""

    container_id: str = msgspec.field(default="", name="ContainerID")
    exit_code: int = 0


class TaskStatus(_SwarmObject, frozen=True):
    """What the task's node last said of it."""

    state: str
    message: str = ""
    err: str = ""
    container_status: ContainerStatus | None = None


class NetworkSpec(_SwarmObject, frozen=True):
    """What was asked for."""

    name: str = ""


class AttachedNetwork(_SwarmObject, frozen=True):
    """A network that a task is in."""

    spec: NetworkSpec = NetworkSpec()


class NetworkAttachment(_SwarmObject, frozen=True):
    """A task's addresses in a network."""

    network: AttachedNetwork = AttachedNetwork()
    addresses: list[str] | None = None
    """With the length of the network's prefix, as `10.0.1.7/24`."""


class Task(_SwarmObject, frozen=True):
    """An entry of `GET /tasks`."""

    created_at: str
    service_id: str = msgspec.field(name="ServiceID")
    desired_state: str
    status: TaskStatus
    node_id: str = msgspec.field(default="", name="NodeID")
    networks_attachments: list[NetworkAttachment] | None = None


class NodeStatus(_SwarmObject, frozen=True):
    """What the managers think of a node."""

    state: str


class NodeDescription(_SwarmObject, frozen=True):
    """What the node says of itself."""

    hostname: str = ""


class Node(_SwarmObject, frozen=True):
    """An entry of `GET /nodes`."""

    id: str = msgspec.field(name="ID")
    status: NodeStatus
    description: NodeDescription = NodeDescription()
