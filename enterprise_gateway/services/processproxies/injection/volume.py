"""The agent's bundle in a Docker volume: filled once, mounted by each kernel that needs it.

Copying the bundle into each container would cost a tenth of a second a kernel. The volume is filled
through a container that mounts it and is never started. The container's name serves as a lock
between gateways that share an engine, because the engine gives a name to one of them only.
"""

import asyncio
import base64
import io
import json
import logging
import tarfile
from typing import Any

import msgspec

from enterprise_gateway.errors import ConflictError, NotFoundError, UnavailableError
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.engine.containers import DockerContainers
from enterprise_gateway.services.processproxies.injection.bundle import (
    FILE,
    FOLDER,
    LABELS,
    AgentBundle,
)
from enterprise_gateway.settings import LiveSettings

_FILL_SECONDS = 60.0
_RETRY_SECONDS = 0.05
"""The pause if the engine has reserved the name, but does not know the container yet."""
_STAT_HEADER = "X-Docker-Container-Path-Stat"

_log = logging.getLogger(__name__)


class _Volume(msgspec.Struct, frozen=True, rename="pascal"):
    """The answer to `GET /volumes/NAME` (API 1.41)."""

    created_at: str = ""


class AgentVolume:
    """Provides the bundle in a volume of the engine.

    A volume that was found complete is not checked again, unless it was replaced by another of the
    same name.
    """

    def __init__(
        self, engine: DockerEngine, containers: DockerContainers, settings: LiveSettings
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._containers = containers
        self._filling: asyncio.Task[None] | None = None
        self._complete = ""

    async def ensure(self, bundle: AgentBundle, image: str) -> None:
        """Fill the volume that has the bundle's name, unless it is complete.

        Cancelling a caller does not cancel the filling, which would leave the lock behind.

        Args:
            bundle: the content.
            image: any image that the engine has, for the container that is never started.
        """
        if await self._is_known_complete(bundle):
            return
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._keep_filling(bundle, image))
        await asyncio.shield(self._filling)

    async def close(self) -> None:
        """Wait until a filling that is under way is over."""
        if self._filling is not None:
            await asyncio.gather(self._filling, return_exceptions=True)

    async def _keep_filling(self, bundle: AgentBundle, image: str) -> None:
        try:
            async with asyncio.timeout(_FILL_SECONDS):
                while not await self._fill(bundle, image):
                    await self._until_unlocked(bundle.name)
        except TimeoutError as exc:
            raise UnavailableError(
                f"The Docker volume {bundle.name} was not filled within {_FILL_SECONDS:g} s."
            ) from exc

    async def _is_known_complete(self, bundle: AgentBundle) -> bool:
        created_at = await self._created_at(bundle.name)
        return created_at != "" and created_at == self._complete

    async def _created_at(self, name: str) -> str:
        """Return when the volume was created, "" if there is none."""
        try:
            return (await self._engine.fetch(f"volumes/{name}", _Volume)).created_at
        except NotFoundError:
            return ""

    async def _fill(self, bundle: AgentBundle, image: str) -> bool:
        """Fill the volume unless it is complete; return False if another gateway has the lock."""
        try:
            async with self._engine.request() as docker:
                filler = await docker.containers.create(
                    _never_started(bundle.name, image), name=bundle.name
                )
        except ConflictError:
            return False
        try:
            # A complete volume is not written to: a kernel's Python may be reading it.
            if not await self._holds(bundle):
                await self._write(bundle)
                _log.info("The Docker volume %s holds the kernel agent now", bundle.name)
            self._complete = await self._created_at(bundle.name)
        except NotFoundError:  # the container was removed in between
            return False
        finally:
            await self._containers.remove(filler.id)
        return True

    async def _write(self, bundle: AgentBundle) -> None:
        async with self._engine.request() as docker:
            container = docker.containers.container(bundle.name)
            await container.put_archive(  # type: ignore[no-untyped-call] # it has no annotations
                FOLDER, _archive(bundle.content)
            )

    async def _holds(self, bundle: AgentBundle) -> bool:
        """Compare the bundle in the volume byte by byte: its code runs in every kernel."""
        if await self._size(bundle.name) != len(bundle.content):
            return False
        async with self._engine.request() as docker:
            container = docker.containers.container(bundle.name)
            with await container.get_archive(f"{FOLDER}/{FILE}") as archive:
                file = archive.extractfile(FILE) if FILE in archive.getnames() else None
                return file is not None and file.read() == bundle.content

    async def _size(self, name: str) -> int:
        """Return the size of the bundle in the volume, -1 if there is none."""
        path = f"containers/{name}/archive"
        headers = await self._engine.head(path, {"path": f"{FOLDER}/{FILE}"})
        if headers is None:
            return -1
        return int(json.loads(base64.b64decode(headers[_STAT_HEADER]))["size"])

    async def _until_unlocked(self, name: str) -> None:
        """Wait until another gateway releases the lock; break it if that gateway was killed."""
        try:
            other = (await self._containers.inspect(name))["Id"]
        except NotFoundError:
            # Either it is gone, or the engine does not know the container yet and sends no event.
            await asyncio.sleep(_RETRY_SECONDS)
            return
        try:
            deadline = self._settings.current.delays.volume_lock_seconds
            async with self._engine.request(deadline=deadline) as docker:
                await docker.containers.container(other).wait(condition="removed")
        except NotFoundError:
            return
        except UnavailableError:
            _log.warning("Removing the container %s, which a killed gateway left behind", name)
            await self._containers.remove(other)


def _never_started(name: str, image: str) -> dict[str, Any]:
    """Return the body of `POST /containers/create` for the container that mounts the volume.

    The engine creates the volume together with it.
    """
    return {
        "Image": image,
        "Entrypoint": ["never started"],
        "Labels": LABELS,
        "NetworkDisabled": True,
        "HostConfig": {
            "Mounts": [
                {
                    "Type": "volume",
                    "Source": name,
                    "Target": FOLDER,
                    "VolumeOptions": {"NoCopy": True, "Labels": LABELS},
                }
            ]
        },
    }


def _archive(content: bytes) -> bytes:
    """Return a tar archive with the bundle, readable for every user."""
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w") as tar:
        entry = tarfile.TarInfo(FILE)
        entry.size = len(content)
        entry.mode = 0o444
        tar.addfile(entry, io.BytesIO(content))
    return result.getvalue()
