"""The Swarm services of one cluster of gateways, with their tasks, and the nodes of the swarm."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import aiodocker

from enterprise_gateway.errors import (
    ConflictError,
    LaunchError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.processproxies.companion import Companion, service_spec
from enterprise_gateway.services.processproxies.docker_engine import (
    REQUEST_TIMEOUT,
    DockerEngine,
    NotAManagerError,
)
from enterprise_gateway.services.processproxies.docker_workloads import (
    KERNEL_LABELS,
    is_of_cluster,
)
from enterprise_gateway.services.processproxies.swarm_objects import Node, Service, Task
from enterprise_gateway.services.processproxies.swarm_workloads import environment_of

_MANY_IDS = 100
"""From so many on, all are asked for: request lines must not get too long for proxies."""
_LOG_TIMEOUT = 3.0
"""Seconds that the output of a task is waited for: its node may be away."""
_ENDED = ("shutdown", "remove")
"""Desired states of tasks that Swarm has given up."""

T = TypeVar("T")


class DockerServices:
    """Asks a manager about the kernels' services."""

    def __init__(self, engine: DockerEngine, cluster_id: str) -> None:
        self._engine = engine
        self._cluster_id = cluster_id
        self.managed = asyncio.Event()
        """Set once the engine has turned out to be a manager of a swarm."""

    async def services(
        self, *, kernel_id: str | None = None, ids: Sequence[str] | None = None
    ) -> list[Service]:
        """Return the services of all kernels, of one kernel, or those of some ids that are there.

        Raises:
            NotAManagerError: the engine is no manager, and has never been one.
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

    async def ended_tasks(self) -> list[Task]:
        """Return the tasks that Swarm has given up: few, however many kernels there are."""
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
        """Return the environment of a service's container, as the launch script had it.

        Raises:
            NotFoundError: it is gone.
        """
        return environment_of(await self.inspect(service_id))

    async def create_companion(self, companion: Companion) -> None:
        """Make a companion's service.

        Raises:
            LaunchError: the swarm refuses it.
            UnavailableError: the manager does not answer.
        """
        try:
            try:
                await self._create(service_spec(companion))
            except ConflictError:  # left of an earlier life of the kernel
                await self.remove(companion.name)
                await self._create(service_spec(companion))
        except (ConflictError, NotFoundError) as exc:
            raise LaunchError(f"it needs a companion, which the swarm refused: {exc}") from exc

    async def _create(self, spec: Mapping[str, Any]) -> None:
        async with self._request() as docker:
            await docker._query_json(  # noqa: SLF001 - `services.create` would change the environment
                "services/create", method="POST", data=spec
            )

    async def remove(self, service_id: str) -> None:
        """Remove a service; gone already is no error.

        Its container is told to end some seconds later.
        """
        with suppress(NotFoundError):
            async with self._request() as docker:
                await docker.services.delete(service_id)

    async def log_tail(self, service_id: str, max_lines: int) -> str:
        """Return the last lines that a service's container printed, wherever it is or was.

        "" if the service is gone.

        Raises:
            UnavailableError: its node does not answer.
        """
        with suppress(NotFoundError):
            async with self._request(deadline=_LOG_TIMEOUT) as docker:
                logs: Any = docker.services.logs(
                    service_id, stdout=True, stderr=True, tail=str(max_lines)
                )
                return "".join(await logs)
        return ""

    @asynccontextmanager
    async def events(self, since: float) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """Follow the events of services and nodes, as `DockerEngine.events`.

        Services' events carry no labels: those of others are among them.
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
        self, *, deadline: float = REQUEST_TIMEOUT
    ) -> AsyncIterator[aiodocker.Docker]:
        with self._noting_manager():
            async with self._engine.request(deadline=deadline) as docker:
                yield docker

    @contextmanager
    def _noting_manager(self) -> Iterator[None]:
        """Learn from an answer whether the engine is a manager."""
        try:
            yield
        except NotAManagerError as exc:
            if self.managed.is_set():
                raise UnavailableError(f"{exc} It was one before.") from exc
            raise
        self.managed.set()
