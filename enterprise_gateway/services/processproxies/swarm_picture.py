"""The swarm as one gateway process has last seen it. No I/O."""

from collections.abc import Iterable

from enterprise_gateway.services.processproxies.couples import Part
from enterprise_gateway.services.processproxies.swarm_objects import Node, Service, Task
from enterprise_gateway.services.processproxies.swarm_workloads import (
    describe_wait,
    is_on_down_node,
    newest_tasks,
    part_of_service,
)


class SwarmPicture:
    """Services with their tasks, and nodes; every change says which services it concerns."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self._tasks: dict[str, Task] = {}
        self._nodes: dict[str, Node] = {}

    def replace(
        self, services: Iterable[Service], tasks: Iterable[Task], nodes: Iterable[Node]
    ) -> set[str]:
        """Start anew; returns the ids of services that are no longer there."""
        before = set(self.services)
        self.services = {service.id: service for service in services if service.kernel_id}
        self._tasks = newest_tasks(tasks)
        self._nodes = {node.id: node for node in nodes}
        return before - set(self.services)

    def add_services(self, services: Iterable[Service]) -> set[str]:
        """Take in services; returns their ids."""
        added = {service.id: service for service in services if service.kernel_id}
        self.services.update(added)
        return set(added)

    def add_tasks(self, tasks: Iterable[Task]) -> set[str]:
        """Take in tasks; returns the ids of the services that are concerned."""
        changed = {
            service_id: task
            for service_id, task in newest_tasks(tasks).items()
            if service_id in self.services and self._supersedes(service_id, task)
        }
        self._tasks.update(changed)
        return set(changed)

    def put_nodes(self, nodes: Iterable[Node]) -> set[str]:
        """Take in all nodes; returns the ids of the services that are concerned."""
        before, self._nodes = self._nodes, {node.id: node for node in nodes}
        return {
            service_id
            for service_id, task in self._tasks.items()
            if service_id in self.services
            and before.get(task.node_id) != self._nodes.get(task.node_id)
        }

    def is_on_down_node(self, service_id: str) -> bool:
        """Whether a service's task is on a node that is down."""
        task = self._tasks.get(service_id)
        return task is not None and is_on_down_node(task, self._nodes)

    def named(self, name: str) -> Service | None:
        """Return the service of that name, the latest if one has made way for another."""
        services = reversed(self.services.values())
        return next((service for service in services if service.spec.name == name), None)

    def drop(self, service_id: str) -> None:
        """Forget a service that is gone."""
        self.services.pop(service_id, None)
        self._tasks.pop(service_id, None)

    def part(self, service_id: str, network: str) -> Part:
        """Return what a service is of a kernel."""
        task = self._tasks.get(service_id)
        return part_of_service(self.services[service_id], task, self._nodes, network)

    def describe_wait(self, service_id: str) -> str:
        """Say what a service that does not run yet is waiting for."""
        return describe_wait(self._tasks.get(service_id), self._nodes)

    def _supersedes(self, service_id: str, task: Task) -> bool:
        known = self._tasks.get(service_id)
        return known is None or (known != task and known.created_at <= task.created_at)
