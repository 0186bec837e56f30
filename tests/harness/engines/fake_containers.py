"""A Docker engine whose containers only the test changes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.engine.containers import (
    Container,
    DockerContainers,
)
from enterprise_gateway.services.processproxies.workloads.sidecars import SIDECAR_LABEL
from enterprise_gateway.settings import DockerSettings


class FakeContainers(DockerContainers):
    """Containers of one kernel, `k` unless it is changed.

    Attributes:
        kernel_id: the kernel's.
        removed: what was removed, in order.
        changed: set at each removal.
    """

    def __init__(self) -> None:
        super().__init__(DockerEngine(DockerSettings()), "")
        self.kernel_id = "k"
        self.removed: list[str] = []
        self.changed = asyncio.Event()
        self._entries: dict[str, Container] = {}
        self._events: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()

    def put(self, container_id: str, *, sidecar_of: str = "", ip: str = "", **labels: str) -> None:
        """Have a container that runs; its id will do for an address."""
        labels = {
            "kernel_id": self.kernel_id,
            **labels,
            **({SIDECAR_LABEL: sidecar_of} if sidecar_of else {}),
        }
        self._entries = {
            container_id: {
                "Id": container_id,
                "Names": [f"/{container_id}"],
                "Image": "kernel",
                "Labels": labels,
                "State": "running",
                "Status": "Up",
                "Created": 1_700_000_000,
                "NetworkSettings": {"Networks": {"bridge": {"IPAddress": ip or container_id}}},
            },
            **self._entries,  # the engine lists the newest first
        }
        self.tell(container_id, "create")
        self.tell(container_id, "start")

    def kill(self, container_id: str, *, is_kept: bool = False, exit_code: str = "137") -> None:
        """End a container; the engine removes it unless it is to be kept."""
        self.tell(container_id, "die", exitCode=exit_code)
        entry = self._entries[container_id]
        if is_kept:
            entry["State"], entry["Status"] = "exited", f"Exited ({exit_code}) 1 second ago"
        else:
            del self._entries[container_id]
            self.tell(container_id, "destroy", entry)

    def forget(self, container_id: str) -> None:
        """Remove a container without an event."""
        del self._entries[container_id]

    def tell(self, container_id: str, action: str, entry: Any = None, **more: str) -> None:
        """Send an event."""
        labels = (entry or self._entries[container_id])["Labels"]
        attributes = {"name": container_id, **labels, **more}
        actor = {"ID": container_id, "Attributes": attributes}
        self._events.put_nowait({"Action": action, "Actor": actor, "timeNano": 1})

    def drop_events(self) -> None:
        """Drop the events so far."""
        while not self._events.empty():
            self._events.get_nowait()

    def end_events(self) -> None:
        """Cut the connection."""
        self._events.put_nowait(None)

    async def list(self, kernel_id: str | None = None) -> list[Container]:
        """See the base class."""
        del kernel_id
        return [*self._entries.values()]

    async def inspect(self, container_id: str) -> Mapping[str, Any]:
        """See the base class."""
        return {"Config": {"Labels": self._entries[container_id]["Labels"]}}

    async def environment(self, container_id: str) -> dict[str, str]:
        """See the base class."""
        del container_id
        return {}

    async def output(self, container_id: str) -> AsyncIterator[bytes]:
        """See the base class."""
        yield container_id.encode()

    async def remove(self, container_id: str) -> None:
        """See the base class."""
        self.removed.append(container_id)
        if container_id in self._entries:
            self.kill(container_id)
        self.changed.set()

    @asynccontextmanager
    async def events(self, since: float) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """See the base class."""
        del since

        async def received() -> AsyncIterator[Mapping[str, Any]]:
            while (event := await self._events.get()) is not None:
                yield event

        yield received()
