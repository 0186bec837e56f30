"""The engine's containers, followed: a list, then events, then a list again after each break."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from enterprise_gateway.errors import GatewayError
from enterprise_gateway.services.processproxies.contract import WorkloadState
from enterprise_gateway.services.processproxies.couples import Part
from enterprise_gateway.services.processproxies.docker_containers import DockerContainers
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine
from enterprise_gateway.services.processproxies.docker_workloads import (
    companion_of_container,
    describe_exit,
    part_of_container,
    part_of_event,
)
from enterprise_gateway.services.processproxies.engine_watch import (
    EVENT_OVERLAP,
    EngineWatch,
    dead,
)

_STALE_AFTER = 45.0
"""Seconds after which a container that was created but never started has nobody who would start it:
the image is there before there is a container.
"""
_SHORTEST_LOOK = 5.0
"""Seconds between two looks for such containers, at least; and between attempts to remove one."""

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
        now = asyncio.get_running_loop().time()
        self._due_partings(self._left(), now)
        looks = list(self._partings.values())
        starting = [
            part.workload.created
            for part in self._couples.parts.values()
            if part.workload.state is WorkloadState.STARTING
        ]
        if starting:
            remaining = min(starting) + _STALE_AFTER - time.time()
            looks.append(now + max(remaining, _SHORTEST_LOOK))
        return min(looks, default=None)

    async def _list(self) -> None:
        gone = set(self._couples.parts)
        # Companions last: one whose kernel has not been seen would seem to be alone.
        for container in sorted(await self._containers.list(), key=companion_of_container):
            part = part_of_container(container, self._network())
            if part is None:
                continue
            gone.discard(part.engine_id)
            stale = time.time() - part.workload.created > _STALE_AFTER
            if container["State"] == "created" and stale:
                await self._remove(part, "which was never started")
            else:
                self._publish(part)
        for container_id in gone:
            self._publish_gone(container_id, describe_exit("", out_of_memory=False))
        await self._part()

    async def _part(self) -> None:
        """Remove what was left alone for long enough."""
        now = asyncio.get_running_loop().time()
        for container_id in self._due_partings(self._left(), now):
            self._partings[container_id] = now + _SHORTEST_LOOK
            part = self._couples.part(container_id)
            if part is not None:
                await self._remove(part, "whose other half has ended")

    def _left(self) -> set[str]:
        """Return the ids of containers that are of no use any more.

        Of a kernel that is dead its companion is, even if the operator wants dead ones kept.
        """
        left = set()
        for couple in self._couples:
            left.add(couple.survivor)
            if not couple.kernel_lives and not couple.is_companion_gone:
                left.add(couple.companion_id)
        return left - {""}

    async def _remove(self, part: Part, why: str) -> None:
        _log.info("Removing a container of kernel %s, %s", part.workload.kernel_id, why)
        with contextlib.suppress(GatewayError):
            await self._containers.remove(part.engine_id)

    async def _handle(self, event: Mapping[str, Any]) -> None:
        action = event["Action"]
        container_id = event["Actor"]["ID"]
        if action == "create":
            if self._couples.part(container_id) is None:  # or the list, newer than it, had it
                self._publish(part_of_event(event, WorkloadState.STARTING))
        elif action == "start":
            await self._handle_start(event, container_id)
        elif action == "oom":
            self._out_of_memory.add(container_id)
        elif action == "die":
            exit_code = event["Actor"]["Attributes"].get("exitCode", "")
            reason = describe_exit(exit_code, out_of_memory=container_id in self._out_of_memory)
            self._publish(self._ended(event, reason))
        elif action == "destroy":
            self._out_of_memory.discard(container_id)
            reason = describe_exit("", out_of_memory=False)
            self._publish(self._ended(event, reason))
            self._publish_gone(container_id, reason)

    async def _handle_start(self, event: Mapping[str, Any], container_id: str) -> None:
        kernel_id = event["Actor"]["Attributes"].get("kernel_id", "")
        for container in await self._containers.list(kernel_id):
            if container["Id"] == container_id:
                part = part_of_container(container, self._network())
                if part is not None and not part.is_dead:
                    self._publish(part)

    def _ended(self, event: Mapping[str, Any], reason: str) -> Part:
        known = self._couples.part(event["Actor"]["ID"])
        return dead(known or part_of_event(event, WorkloadState.DEAD), reason)
