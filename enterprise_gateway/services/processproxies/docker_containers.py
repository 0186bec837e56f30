"""The containers of one cluster of gateways on an engine."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from enterprise_gateway.errors import (
    ConflictError,
    LaunchError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.processproxies.companion import Companion, container_config
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine
from enterprise_gateway.services.processproxies.docker_workloads import (
    KERNEL_LABELS,
    entries_of_environment,
    is_container_of_cluster,
)

REMOVE_TIMEOUT = 30.0
_EVENTS = ("create", "start", "oom", "die", "destroy")


class Container(TypedDict):
    """An entry of `GET /containers/json`, as far as it matters here (API 1.41)."""

    Id: str
    Names: list[str] | None
    Labels: dict[str, str]
    State: str
    Status: str
    Created: int
    NetworkSettings: dict[str, Any] | None


class DockerContainers:
    """Asks an engine about the kernels' containers."""

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

    async def inspect(self, container_id: str) -> Mapping[str, Any]:
        """Return what the engine knows of one container, `GET /containers/ID/json`.

        Args:
            container_id: or its name.

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

    async def create_companion(self, companion: Companion) -> None:
        """Make a companion's container and start it; the image is pulled if it is not there.

        Raises:
            LaunchError: the engine cannot.
            UnavailableError: it does not answer.
        """
        try:
            try:
                container_id = await self._create(companion)
            except ConflictError:  # left of an earlier life of the kernel
                await self.remove(companion.name)
                container_id = await self._create(companion)
            except NotFoundError:
                await self._pull(companion.image)
                container_id = await self._create(companion)
            async with self._engine.request() as docker:
                await docker.containers.container(container_id).start()
        except (ConflictError, NotFoundError) as exc:
            raise LaunchError(
                f"it needs a companion, which could not be made from the image {companion.image} "
                f"(EG_COMPANION_IMAGE): {exc}"
            ) from exc

    async def _create(self, companion: Companion) -> str:
        async with self._engine.request() as docker:
            config = container_config(companion)
            return (await docker.containers.create(config, name=companion.name)).id

    async def _pull(self, image: str) -> None:
        """Pull an image, for as long as that takes.

        Raises:
            LaunchError: it cannot be pulled.
        """
        has_tag = ":" in image.rpartition("/")[2]
        try:
            with self._engine.translated():
                images = self._engine.connected().images
                await images.pull(image if has_tag else f"{image}:latest", timeout=None)
        except (NotFoundError, UnavailableError) as exc:
            raise LaunchError(
                f"it needs a companion, whose image {image} is not on this engine and cannot be "
                f"pulled: {exc} Build or load it, or set EG_COMPANION_IMAGE."
            ) from exc

    async def environment(self, container_id: str) -> dict[str, str]:
        """Return the variables that a container was created with; its image's are not among them.

        Raises:
            NotFoundError: it is gone.
        """
        inspected = await self.inspect(container_id)
        entries = inspected["Config"]["Env"] or []
        with contextlib.suppress(NotFoundError):  # an image may be removed while it is in use
            async with self._engine.request() as docker:
                image = await docker.images.inspect(inspected["Image"])
            of_image = set(image["Config"].get("Env") or ())
            entries = [entry for entry in entries if entry not in of_image]
        return entries_of_environment(entries)

    async def remove(self, container_id: str) -> None:
        """Remove a container by force and wait until it is gone; gone already is no error."""
        try:
            async with self._engine.request(deadline=REMOVE_TIMEOUT) as docker:
                await docker.containers.container(container_id).delete(force=True, v=True)
        except NotFoundError:
            return
        except ConflictError:  # somebody else, such as the engine after an exit, is removing it
            with contextlib.suppress(NotFoundError):
                async with self._engine.request(deadline=REMOVE_TIMEOUT) as docker:
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
        """Yield what a container printed and prints, until it ends.

        To be called as soon as the container is created: one that the engine removes when it ends
        takes its log with it.
        """
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
