"""The engine's containers, followed: a list, then events, then a list again after each break."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from enterprise_gateway.errors import GatewayError
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.services.processproxies.docker_containers import DockerContainers
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine
from enterprise_gateway.services.processproxies.docker_workloads import (
    describe_exit,
    workload_of_container,
    workload_of_event,
)
from enterprise_gateway.services.processproxies.engine_watch import (
    EVENT_OVERLAP,
    EngineWatch,
    Sighting,
    dead,
)

_STALE_AFTER = 45.0
"""Seconds after which a container that was created but never started has nobody who would start it:
the image is there before there is a container.
"""
_SHORTEST_LOOK = 5.0
"""Seconds between two looks for such containers, at least."""

_log = logging.getLogger(__name__)


class DockerWatch(EngineWatch):
    """Knows the kernels' containers."""

    def __init__(
        self, engine: DockerEngine, containers: DockerContainers, network: Callable[[], str]
    ) -> None:
        super().__init__(engine)
        self._containers = containers
        self._network = network
        self._out_of_memory: set[str] = set()

    async def _follow(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with (
                self._containers.events(time.time() - EVENT_OVERLAP) as events,
                asyncio.timeout(None) as look,
            ):
                await self._list()
                self._note_answer()
                look.reschedule(self._next_look())
                async for event in events:
                    await self._handle(event)
                    look.reschedule(self._next_look())

    def _next_look(self) -> float | None:
        """Return when to list all again, by the event loop's clock: a start may never come."""
        starting = [
            workload.created
            for workload in self.known.values()
            if workload.state is WorkloadState.STARTING
        ]
        if not starting:
            return None
        remaining = min(starting) + _STALE_AFTER - time.time()
        return asyncio.get_running_loop().time() + max(remaining, _SHORTEST_LOOK)

    async def _list(self) -> None:
        gone = set(self.known)
        for container in await self._containers.list():
            workload = workload_of_container(container, self._network())
            if workload is None:
                continue
            gone.discard(container["Id"])
            stale = time.time() - workload.created > _STALE_AFTER
            if container["State"] == "created" and stale:
                await self._remove_stale(container["Id"], workload)
            else:
                self._publish(Sighting(container["Id"], workload))
        for container_id in gone:
            self._publish_gone(container_id, describe_exit("", out_of_memory=False))

    async def _remove_stale(self, container_id: str, workload: Workload) -> None:
        _log.info(
            "Removing the container of kernel %s, which was never started", workload.kernel_id
        )
        with contextlib.suppress(GatewayError):
            await self._containers.remove(container_id)

    async def _handle(self, event: Mapping[str, Any]) -> None:
        action = event["Action"]
        container_id = event["Actor"]["ID"]
        if action == "create":
            if container_id not in self.known:  # or the list, newer than the event, had it
                starting = workload_of_event(event, WorkloadState.STARTING)
                self._publish(Sighting(container_id, starting))
        elif action == "start":
            await self._handle_start(event, container_id)
        elif action == "oom":
            self._out_of_memory.add(container_id)
        elif action == "die":
            exit_code = event["Actor"]["Attributes"].get("exitCode", "")
            reason = describe_exit(exit_code, out_of_memory=container_id in self._out_of_memory)
            self._publish(Sighting(container_id, self._ended(event, container_id, reason)))
        elif action == "destroy":
            self._out_of_memory.discard(container_id)
            reason = describe_exit("", out_of_memory=False)
            self._publish(Sighting(container_id, self._ended(event, container_id, reason)))
            del self.known[container_id]

    async def _handle_start(self, event: Mapping[str, Any], container_id: str) -> None:
        kernel_id = event["Actor"]["Attributes"].get("kernel_id", "")
        for container in await self._containers.list(kernel_id):
            if container["Id"] == container_id:
                workload = workload_of_container(container, self._network())
                if workload is not None and workload.state is not WorkloadState.DEAD:
                    self._publish(Sighting(container_id, workload))

    def _ended(self, event: Mapping[str, Any], container_id: str, reason: str) -> Workload:
        known = self.known.get(container_id)
        if known is not None:
            return dead(known, reason)
        return workload_of_event(event, WorkloadState.DEAD, reason)
