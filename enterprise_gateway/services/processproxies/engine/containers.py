"""The containers of one cluster of gateways on an engine."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypedDict

import msgspec

from enterprise_gateway.errors import (
    ConflictError,
    NotFoundError,
)
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.workloads.containers import (
    KERNEL_LABELS,
    entries_of_environment,
    is_container_of_cluster,
)

_REMOVE_SECONDS = 30.0
_EVENTS = ("create", "start", "rename", "pause", "unpause", "oom", "die", "destroy")


class Container(TypedDict):
    """The fields of an entry of `GET /containers/json` that gateways use (API 1.41)."""

    Id: str
    Names: list[str] | None
    Image: str
    Labels: dict[str, str]
    State: str
    Status: str
    Created: int
    NetworkSettings: dict[str, Any] | None


class _CpuUsage(msgspec.Struct):
    total_usage: int
    """Nanoseconds."""


class _CpuStats(msgspec.Struct):
    cpu_usage: _CpuUsage


class _Stats(msgspec.Struct):
    cpu_stats: _CpuStats


class DockerContainers:
    """Sends an engine requests about the kernels' containers."""

    def __init__(self, engine: DockerEngine, cluster_id: str) -> None:
        self._engine = engine
        self._cluster_id = cluster_id

    async def list(self, kernel_id: str | None = None) -> list[Container]:
        """Return the containers of all kernels, or of one."""
        of_one = [] if kernel_id is None else [f"kernel_id={kernel_id}"]
        filters = {"label": [*KERNEL_LABELS, *of_one]}
        found = await self._engine.fetch(
            "containers/json", list[Container], filters=filters, params={"all": "true"}
        )
        return [
            container
            for container in found
            if is_container_of_cluster(container["Labels"], self._cluster_id)
            and kernel_id in (None, container["Labels"].get("kernel_id"))
        ]

    async def cpu_seconds(self, container_id: str) -> float:
        """Return the CPU time of a container, `GET /containers/ID/stats` (API 1.41)."""
        params = {"stream": "false", "one-shot": "true"}
        stats = await self._engine.fetch(f"containers/{container_id}/stats", _Stats, params=params)
        return stats.cpu_stats.cpu_usage.total_usage / 1e9

    async def inspect(self, container_id: str) -> Mapping[str, Any]:
        """Return one container, `GET /containers/ID/json`.

        Args:
            container_id: its id or name.

        Raises:
            NotFoundError: it is gone.
        """
        async with self._engine.request() as docker:
            inspected: Mapping[str, Any] = await docker.containers.container(container_id).show()
        return inspected

    async def labels(self, container_id: str) -> Mapping[str, str]:
        """Return the labels of a container.

        Raises:
            NotFoundError: it is gone.
        """
        return (await self.inspect(container_id))["Config"]["Labels"] or {}

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container, `POST /containers/create`; return its id.

        Raises:
            ConflictError: the name is taken.
            NotFoundError: the engine does not have the image.
        """
        async with self._engine.request() as docker:
            return (await docker.containers.create(dict(config), name=name)).id

    async def start(self, container_id: str) -> None:
        """Start a container.

        Raises:
            NotFoundError: it is gone.
        """
        async with self._engine.request() as docker:
            await docker.containers.container(container_id).start()

    async def rename(self, name: str, new_name: str) -> None:
        """Rename a container, `POST /containers/NAME/rename`.

        Raises:
            NotFoundError: none has that name.
        """
        async with self._engine.request() as docker:
            await docker.containers.container(name).rename(new_name)

    async def pause(self, container_id: str) -> None:
        """Stop all processes of a container, `POST /containers/ID/pause`.

        Raises:
            ConflictError: it is paused already, or does not run.
            NotFoundError: it is gone.
        """
        async with self._engine.request() as docker:
            await docker.containers.container(container_id).pause()

    async def unpause(self, container_id: str) -> None:
        """Have the processes of a container go on, `POST /containers/ID/unpause`.

        Raises:
            ConflictError, UnavailableError: it is not paused; Docker 20.10 answers 500.
            NotFoundError: it is gone.
        """
        async with self._engine.request() as docker:
            await docker.containers.container(container_id).unpause()

    async def environment(self, container_id: str) -> dict[str, str]:
        """Return the variables that a container was created with, without those of its image.

        Raises:
            NotFoundError: it is gone.
        """
        inspected = await self.inspect(container_id)
        entries = inspected["Config"]["Env"] or []
        with contextlib.suppress(NotFoundError):  # the image was removed while in use
            async with self._engine.request() as docker:
                image = await docker.images.inspect(inspected["Image"])
            of_image = set(image["Config"].get("Env") or ())
            entries = [entry for entry in entries if entry not in of_image]
        return entries_of_environment(entries)

    async def remove(self, container_id: str) -> None:
        """Remove a container by force and wait until it is gone; one that is gone is no error."""
        try:
            async with self._engine.request(deadline=_REMOVE_SECONDS) as docker:
                await docker.containers.container(container_id).delete(force=True, v=True)
        except NotFoundError:
            return
        except ConflictError:  # it is being removed by another client, or by the engine
            with contextlib.suppress(NotFoundError):
                async with self._engine.request(deadline=_REMOVE_SECONDS) as docker:
                    await docker.containers.container(container_id).wait(condition="removed")

    async def log_tail(self, container_id: str, max_lines: int) -> str:
        """Return the last lines that a container printed, "" if it is gone."""
        try:
            async with self._engine.request() as docker:
                lines = await docker.containers.container(container_id).log(
                    stdout=True, stderr=True, tail=str(max_lines)
                )
        except (NotFoundError, ConflictError):
            return ""
        return "".join(lines)

    async def output(self, container_id: str) -> AsyncIterator[bytes]:
        """Yield the output of a container, from its beginning, until the container ends.

        Call it as soon as the container is created: if the engine removes the container at its end,
        the log is gone, too. Yields nothing for the log driver `none`: if asked for such a log,
        Docker 20.10 looks for a plugin of that name, and creates no container for 15 s.

        Raises:
            NotFoundError: it is gone.
        """
        inspected = await self.inspect(container_id)
        if inspected["HostConfig"]["LogConfig"]["Type"] == "none":
            return
        with self._engine.translated():
            container = self._engine.connected().containers.container(container_id)
            async with container.attach(stdout=True, stderr=True, logs=True) as stream:
                while message := await stream.read_out():
                    yield message.data

    @asynccontextmanager
    async def events(self, since: float) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """Follow the events of the kernels' containers, as `DockerEngine.events`."""
        filters = {"type": ["container"], "label": KERNEL_LABELS, "event": _EVENTS}
        async with self._engine.events(filters, since) as events:
            yield (
                event
                async for event in events
                if is_container_of_cluster(event["Actor"]["Attributes"], self._cluster_id)
            )
