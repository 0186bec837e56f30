"""The agent's bundle in a volume of an engine: filled once, mounted by each kernel that needs it.

Copying it into each container would cost a tenth of a second a kernel. What is in a volume is
written by way of a container that has it mounted and is never started. That container's name is the
lock between gateways, which may share an engine: the engine gives a name to one of them.
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
from enterprise_gateway.services.processproxies.agent_bundle import (
    FILE,
    FOLDER,
    LABELS,
    AgentBundle,
)
from enterprise_gateway.services.processproxies.docker_containers import DockerContainers
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine

PATIENCE = 15.0
"""Seconds after which a container that another gateway fills the volume by counts as left behind.

It takes some tenths of a second, so that gateway was killed.
"""
_DEADLINE = 60.0
_PAUSE = 0.05
"""Seconds until an engine that knows a name, but not the container yet, is asked again."""
_STAT_HEADER = "X-Docker-Container-Path-Stat"

_log = logging.getLogger(__name__)


class _Volume(msgspec.Struct, frozen=True, rename="pascal"):
    """The answer to `GET /volumes/NAME` (API 1.41)."""

    created_at: str = ""


class AgentVolume:
    """Has the bundle in a volume of the engine.

    Remembers which volume it found complete; one that an operator removed, and whatever came after
    it under the same name, is looked at again.
    """

    def __init__(self, engine: DockerEngine, containers: DockerContainers) -> None:
        self._engine = engine
        self._containers = containers
        self._filling: asyncio.Task[None] | None = None
        self._complete = ""

    async def ensure(self, bundle: AgentBundle, image: str) -> None:
        """Have the volume, which is called as the bundle, filled.

        Goes on if whoever wants it is cancelled: the lock would be left to others to be broken.

        Args:
            bundle: what is to be in it.
            image: one that the engine has, for the container that is never started.
        """
        if await self._is_known_complete(bundle):
            return
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._keep_filling(bundle, image))
        await asyncio.shield(self._filling)

    async def close(self) -> None:
        """Finish what is under way."""
        if self._filling is not None:
            await asyncio.gather(self._filling, return_exceptions=True)

    async def _keep_filling(self, bundle: AgentBundle, image: str) -> None:
        try:
            async with asyncio.timeout(_DEADLINE):
                while not await self._fill(bundle, image):
                    await self._until_unlocked(bundle.name)
        except TimeoutError as exc:
            raise UnavailableError(
                f"The Docker volume {bundle.name} was not filled within {_DEADLINE:g} s."
            ) from exc

    async def _is_known_complete(self, bundle: AgentBundle) -> bool:
        created_at = await self._created_at(bundle.name)
        return created_at != "" and created_at == self._complete

    async def _created_at(self, name: str) -> str:
        """Return when the volume was made, "" if there is none."""
        try:
            return (await self._engine.fetch(f"volumes/{name}", _Volume)).created_at
        except NotFoundError:
            return ""

    async def _fill(self, bundle: AgentBundle, image: str) -> bool:
        """Fill the volume unless it is full; False if another gateway is at it."""
        try:
            async with self._engine.request() as docker:
                filler = await docker.containers.create(
                    _never_started(bundle.name, image), name=bundle.name
                )
        except ConflictError:
            return False
        try:
            # One that is in use is never written to: a kernel's Python may be reading it.
            if await self._size(bundle.name) != len(bundle.content):
                await self._write(bundle)
                _log.info("The Docker volume %s holds the kernel agent now", bundle.name)
            self._complete = await self._created_at(bundle.name)
        except NotFoundError:  # somebody removed the container in between
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

    async def _size(self, name: str) -> int:
        """Return the size of the bundle in the volume, -1 if there is none."""
        path = f"containers/{name}/archive"
        headers = await self._engine.head(path, {"path": f"{FOLDER}/{FILE}"})
        if headers is None:
            return -1
        return int(json.loads(base64.b64decode(headers[_STAT_HEADER]))["size"])

    async def _until_unlocked(self, name: str) -> None:
        """Wait until the other gateway's container is gone; remove it if that one was killed."""
        try:
            other = (await self._containers.inspect(name))["Id"]
        except NotFoundError:
            # Gone, or the engine has the name but not the container yet, of which nothing tells.
            await asyncio.sleep(_PAUSE)
            return
        try:
            async with self._engine.request(deadline=PATIENCE) as docker:
                await docker.containers.container(other).wait(condition="removed")
        except NotFoundError:
            return
        except UnavailableError:
            _log.warning("Removing container %s, which a gateway left behind", name)
            await self._containers.remove(other)


def _never_started(name: str, image: str) -> dict[str, Any]:
    """Return what `POST /containers/create` takes for the container that the volume is filled by.

    The volume is made with it.
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
    """Return the tar archive that puts the bundle into the folder, for anybody to read."""
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w") as tar:
        entry = tarfile.TarInfo(FILE)
        entry.size = len(content)
        entry.mode = 0o444
        tar.addfile(entry, io.BytesIO(content))
    return result.getvalue()
