"""A cache of the swarm's services, tasks and nodes. No I/O."""

from collections.abc import Iterable

from enterprise_gateway.services.processproxies.workloads.services import (
    describe_wait,
    is_on_down_node,
    member_of_service,
    newest_tasks,
)
from enterprise_gateway.services.processproxies.workloads.sidecars import Member
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Node, Service, Task


class SwarmCache:
    """Services with their tasks, and nodes; each update returns the ids of affected services."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self._tasks: dict[str, Task] = {}
        self._nodes: dict[str, Node] = {}

    def replace(
        self, services: Iterable[Service], tasks: Iterable[Task], nodes: Iterable[Node]
    ) -> set[str]:
        """Replace everything; return the ids of services that are no longer there."""
        before = set(self.services)
        self.services = {service.id: service for service in services if service.kernel_id}
        self._tasks = newest_tasks(tasks)
        self._nodes = {node.id: node for node in nodes}
        return before - set(self.services)

    def add_services(self, services: Iterable[Service]) -> set[str]:
        """Add or update services; return their ids."""
        added = {service.id: service for service in services if service.kernel_id}
        self.services.update(added)
        return set(added)

    def add_tasks(self, tasks: Iterable[Task]) -> set[str]:
        """Add or update tasks; return the ids of services whose task has changed."""
        changed = {
            service_id: task
            for service_id, task in newest_tasks(tasks).items()
            if service_id in self.services and self._supersedes(service_id, task)
        }
        self._tasks.update(changed)
        return set(changed)

    def replace_nodes(self, nodes: Iterable[Node]) -> set[str]:
        """Replace the nodes; return the ids of services whose node has changed."""
        before, self._nodes = self._nodes, {node.id: node for node in nodes}
        return {
            service_id
            for service_id, task in self._tasks.items()
            if service_id in self.services
            and before.get(task.node_id) != self._nodes.get(task.node_id)
        }

    def is_on_down_node(self, service_id: str) -> bool:
        """Return whether a service's task is on a node that is down."""
        task = self._tasks.get(service_id)
        return task is not None and is_on_down_node(task, self._nodes)

    def by_name(self, name: str) -> Service | None:
        """Return the service of that name, the latest if there have been several."""
        services = reversed(self.services.values())
        return next((service for service in services if service.spec.name == name), None)

    def drop(self, service_id: str) -> None:
        """Forget a service that is gone."""
        self.services.pop(service_id, None)
        self._tasks.pop(service_id, None)

    def member(self, service_id: str, network: str) -> Member:
        """Return a service as a member of its pair."""
        task = self._tasks.get(service_id)
        return member_of_service(self.services[service_id], task, self._nodes, network)

    def describe_wait(self, service_id: str) -> str:
        """Return a sentence about what a service that does not run yet is waiting for."""
        return describe_wait(self._tasks.get(service_id), self._nodes)

    def _supersedes(self, service_id: str, task: Task) -> bool:
        known = self._tasks.get(service_id)
        return known is None or (known != task and known.created_at <= task.created_at)
