"""The Swarm services of one cluster of gateways, with their tasks, and the nodes of the swarm."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import aiodocker

from enterprise_gateway.errors import (
    ConflictError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.processproxies.engine.client import (
    REQUEST_SECONDS,
    DockerEngine,
    NotAManagerError,
)
from enterprise_gateway.services.processproxies.workloads.containers import (
    KERNEL_LABELS,
    is_of_cluster,
)
from enterprise_gateway.services.processproxies.workloads.services import environment_of
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Node, Service, Task

_MANY_IDS = 100
"""From this number on all objects are listed: the request line could be too long for proxies."""
_LOG_SECONDS = 3.0
"""How long to wait for a task's output: its node may be away."""
_ENDED = ("shutdown", "remove")
"""Desired states of tasks that Swarm has given up."""

T = TypeVar("T")


class DockerServices:
    """Sends a manager requests about the kernels' services."""

    def __init__(self, engine: DockerEngine, cluster_id: str) -> None:
        self._engine = engine
        self._cluster_id = cluster_id
        self.managed = asyncio.Event()
        """Set once the engine has answered as the manager of a swarm."""

    async def services(
        self, *, kernel_id: str | None = None, ids: Sequence[str] | None = None
    ) -> list[Service]:
        """Return the services of all kernels, of one kernel, or those with some ids that exist.

        Raises:
            NotAManagerError: the engine is not a manager, and has never been one.
        """
        of_one = [] if kernel_id is None else [f"kernel_id={kernel_id}"]
        filters = {"label": [*KERNEL_LABELS, *of_one]}
        if ids is not None and len(ids) < _MANY_IDS:
            filters["id"] = list(ids)
        return [
            service
            for service in await self._fetch("services", list[Service], filters)
            if is_of_cluster(service.spec.labels, self._cluster_id)
            and kernel_id in (None, service.kernel_id)
        ]

    async def tasks(self, *, kernel_id: str | None = None) -> list[Task]:
        """Return the tasks of the services of all kernels, or of one."""
        of_one = [] if kernel_id is None else [f"kernel_id={kernel_id}"]
        return await self._tasks({"label": [*KERNEL_LABELS, *of_one]})

    async def tasks_of(self, service_ids: Sequence[str]) -> list[Task]:
        """Return the tasks of some services.

        Raises:
            NotFoundError: one of the services is gone.
        """
        if len(service_ids) >= _MANY_IDS:
            return await self.tasks()
        return await self._tasks({"service": list(service_ids)})

    async def all_running_tasks(self) -> list[Task]:
        """Return the tasks that Swarm wants to run, of all services, not only of kernels."""
        return await self._tasks({"desired-state": ["running"]})

    async def ended_tasks(self) -> list[Task]:
        """Return the tasks that Swarm no longer wants to run, which are few at any time."""
        return await self._tasks({"label": list(KERNEL_LABELS), "desired-state": list(_ENDED)})

    async def nodes(self) -> list[Node]:
        """Return the nodes of the swarm."""
        return await self._fetch("nodes", list[Node])

    async def inspect(self, service_id: str) -> Service:
        """Return one service, by id or name.

        Raises:
            NotFoundError: it is gone.
        """
        return await self._fetch(f"services/{service_id}", Service)

    async def labels(self, service_id: str) -> Mapping[str, str]:
        """Return the labels of a service.

        Raises:
            NotFoundError: it is gone.
        """
        return (await self.inspect(service_id)).spec.labels or {}

    async def environment(self, service_id: str) -> dict[str, str]:
        """Return the environment of a service's container as the launch script received it.

        Raises:
            NotFoundError: it is gone.
        """
        return environment_of(await self.inspect(service_id))

    async def create(self, spec: Mapping[str, Any], registry_auth: str = "") -> str:
        """Create a service, `POST /services/create`, and return its id.

        Args:
            spec: its specification.
            registry_auth: header `X-Registry-Auth` with which nodes pull its image, "" for none.

        Raises:
            ConflictError: the name is taken.
            NotFoundError: the swarm lacks something that the service needs.
        """
        async with self._request() as docker:
            created: Any = await docker._query_json(  # noqa: SLF001 - `services.create` would change the environment
                "services/create",
                method="POST",
                data=spec,
                headers={"X-Registry-Auth": registry_auth} if registry_auth else None,
            )
        return str(created["ID"])

    async def label(self, name: str, label: str, value: str) -> None:
        """Set a label of a service that does not have it yet, `POST /services/NAME/update`.

        Its task goes on as it is.

        Raises:
            ConflictError: the service has the label.
            NotFoundError: it is gone.
        """
        async with self._request() as docker:
            service = await docker._query_json(f"services/{name}")  # noqa: SLF001 - `update` needs more calls
            spec = service["Spec"]
            if label in (spec.get("Labels") or {}):
                raise ConflictError(f"The service {name} has the label {label} already.")
            spec["Labels"] = {**(spec.get("Labels") or {}), label: value}
            await docker._query_json(  # noqa: SLF001 - as above
                f"services/{name}/update",
                method="POST",
                params={"version": str(service["Version"]["Index"])},
                data=spec,
            )

    async def remove(self, service_id: str) -> None:
        """Remove a service; removing one that is gone is no error.

        Swarm ends its container some seconds later.
        """
        with suppress(NotFoundError):
            async with self._request() as docker:
                await docker.services.delete(service_id)

    async def log_tail(self, service_id: str, max_lines: int) -> str:
        """Return the last lines that a service's container printed, on whichever node.

        "" if the service is gone.

        Raises:
            UnavailableError: its node does not answer.
        """
        with suppress(NotFoundError):
            async with self._request(deadline=_LOG_SECONDS) as docker:
                logs: Any = docker.services.logs(
                    service_id, stdout=True, stderr=True, tail=str(max_lines)
                )
                return "".join(await logs)
        return ""

    @asynccontextmanager
    async def events(self, since: float) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """Follow the events of services and nodes, as `DockerEngine.events`.

        Events of services carry no labels, so those of other services are included.
        """
        async with self._engine.events({"type": ["service", "node"]}, since) as events:
            yield events

    async def _tasks(self, filters: Mapping[str, Sequence[str]]) -> list[Task]:
        return await self._fetch("tasks", list[Task], filters)

    async def _fetch(
        self, path: str, kind: type[T], filters: Mapping[str, Sequence[str]] | None = None
    ) -> T:
        with self._noting_manager():
            return await self._engine.fetch(path, kind, filters=filters)

    @asynccontextmanager
    async def _request(
        self, *, deadline: float = REQUEST_SECONDS
    ) -> AsyncIterator[aiodocker.Docker]:
        with self._noting_manager():
            async with self._engine.request(deadline=deadline) as docker:
                yield docker

    @contextmanager
    def _noting_manager(self) -> Iterator[None]:
        """Record from an answer whether the engine is a manager."""
        try:
            yield
        except NotAManagerError as exc:
            if self.managed.is_set():
                raise UnavailableError(f"{exc} It has been a manager before.") from exc
            raise
        self.managed.set()
