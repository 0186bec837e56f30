"""Following the engine's containers: a list, then events; both again when the connection breaks."""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any

from enterprise_gateway.errors import GatewayError
from enterprise_gateway.services.processproxies.contract import WorkloadState
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.engine.containers import DockerContainers
from enterprise_gateway.services.processproxies.watch.base import (
    EVENT_OVERLAP_SECONDS,
    EngineWatch,
    dead,
)
from enterprise_gateway.services.processproxies.workloads.containers import (
    REMOVE_LABEL,
    describe_exit,
    member_of_container,
    member_of_event,
    sidecar_of_container,
)
from enterprise_gateway.services.processproxies.workloads.sidecars import Member
from enterprise_gateway.settings import LiveSettings

KILLED = "137"
"""The exit code of a process that SIGKILL ended, as events have it."""

_log = logging.getLogger(__name__)


class DockerWatch(EngineWatch):
    """Keeps track of the kernels' containers, and removes those that are no longer needed.

    An engine could remove ended containers itself (`AutoRemove`), but one that restarts with
    `live-restore` removes containers that still run.
    """

    def __init__(
        self, engine: DockerEngine, containers: DockerContainers, settings: LiveSettings
    ) -> None:
        super().__init__(engine, settings)
        self._containers = containers
        self._out_of_memory: set[str] = set()
        self._killed: dict[str, tuple[Mapping[str, Any], float]] = {}
        """By container id: exits whose cause may still come, and when they are published."""
        self._removable: set[str] = set()
        """Ids of containers that are to be removed when they have ended."""

    async def _sync(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with (
                self._containers.events(time.time() - EVENT_OVERLAP_SECONDS) as events,
                asyncio.timeout(None) as check,
            ):
                await self._list()
                self._record_answer()
                check.reschedule(self._next_check())
                async for event in events:
                    await self._handle(event)
                    check.reschedule(self._next_check())

    def _next_check(self) -> float | None:
        """Return when to list all containers again, by the event loop's clock.

        No event says that a container is not going to be started.
        """
        now = asyncio.get_running_loop().time()
        self._take_due_removals(self._unneeded(), self._ended_ids(), now)
        checks = [*self._removals_due.values(), *(due for _, due in self._killed.values())]
        starting = [
            member.workload.created
            for member in self._pairs.members.values()
            if member.workload.state is WorkloadState.STARTING
        ]
        if starting:
            remaining = min(starting) + self._delays.stale_container_seconds - time.time()
            checks.append(now + max(remaining, self._delays.container_check_seconds))
        return min(checks, default=None)

    async def _list(self) -> None:
        for container_id in tuple(self._killed):
            self._publish_killed(container_id)
        removed = set(self._pairs.members)
        # Sidecars last: a sidecar whose kernel has not been seen yet would look unpaired.
        for container in sorted(await self._containers.list(), key=sidecar_of_container):
            member = member_of_container(container, self._network)
            if member is None:
                continue
            removed.discard(member.engine_id)
            if container["Labels"].get(REMOVE_LABEL):
                self._removable.add(member.engine_id)
            age = time.time() - member.workload.created
            if container["State"] == "created" and age > self._delays.stale_container_seconds:
                await self._remove(member, "which was never started")
            else:
                self._publish(member)
        for container_id in removed:
            self._removable.discard(container_id)
            self._publish_removed(container_id, describe_exit("", out_of_memory=False))
        await self._remove_due()

    async def _remove_due(self) -> None:
        """Remove the containers whose time has come."""
        now = asyncio.get_running_loop().time()
        for container_id in self._take_due_removals(self._unneeded(), self._ended_ids(), now):
            self._removals_due[container_id] = now + self._delays.container_check_seconds
            member = self._pairs.member(container_id)
            if member is not None:
                why = "which has ended" if member.is_dead else "whose other half has ended"
                await self._remove(member, why)

    def _ended_ids(self) -> set[str]:
        """Return the ids of containers that have ended and are to be removed."""
        members = self._pairs.members.values()
        return {member.engine_id for member in members if member.is_dead} & self._removable

    def _unneeded(self) -> set[str]:
        """Return the ids of containers whose other half has ended.

        The sidecar of a dead kernel is one even if the operator keeps dead containers.
        """
        unneeded = set()
        for pair in self._pairs:
            unneeded.add(pair.unpaired_id)
            if not pair.kernel_lives and not pair.is_sidecar_gone:
                unneeded.add(pair.sidecar_id)
        return unneeded - {""}

    async def _remove(self, member: Member, why: str) -> None:
        _log.info("Removing a container of kernel %s, %s", member.workload.kernel_id, why)
        with contextlib.suppress(GatewayError):
            await self._containers.remove(member.engine_id)

    async def _handle(self, event: Mapping[str, Any]) -> None:
        action = event["Action"]
        container_id = event["Actor"]["ID"]
        if event["Actor"]["Attributes"].get(REMOVE_LABEL):
            self._removable.add(container_id)
        if action == "create":
            if self._pairs.member(container_id) is None:  # else the list, which is newer, has it
                self._publish(member_of_event(event, WorkloadState.STARTING))
        elif action in ("start", "rename"):
            await self._look(event, container_id)
        elif action in ("pause", "unpause"):
            self._publish_paused(container_id, is_paused=action == "pause")
        elif action == "oom":
            self._out_of_memory.add(container_id)
            self._publish_killed(container_id)
        elif action == "die":
            self._handle_exit(event, container_id)
        elif action == "destroy":
            self._publish_killed(container_id)
            self._out_of_memory.discard(container_id)
            self._removable.discard(container_id)
            reason = describe_exit("", out_of_memory=False)
            self._publish(dead(self._member(event), reason))
            self._publish_removed(container_id, reason)

    async def _look(self, event: Mapping[str, Any], container_id: str) -> None:
        kernel_id = event["Actor"]["Attributes"].get("kernel_id", "")
        for container in await self._containers.list(kernel_id):
            if container["Id"] == container_id:
                member = member_of_container(container, self._network)
                if member is not None and not member.is_dead:
                    self._publish(member)

    def _publish_paused(self, container_id: str, *, is_paused: bool) -> None:
        known = self._pairs.member(container_id)
        if known is not None:
            workload = dataclasses.replace(known.workload, is_paused=is_paused)
            self._publish(dataclasses.replace(known, workload=workload))

    def _handle_exit(self, event: Mapping[str, Any], container_id: str) -> None:
        exit_code = event["Actor"]["Attributes"].get("exitCode", "")
        if exit_code == KILLED and container_id not in self._out_of_memory:
            # Of a container that ran out of memory, a busy engine may tell the exit first.
            due = asyncio.get_running_loop().time() + self._delays.late_cause_seconds
            self._killed[container_id] = event, due
        else:
            self._publish_exit(event, exit_code)

    def _publish_killed(self, container_id: str) -> None:
        if container_id in self._killed:
            event, _ = self._killed.pop(container_id)
            self._publish_exit(event, KILLED)

    def _publish_exit(self, event: Mapping[str, Any], exit_code: str) -> None:
        member = self._member(event)
        reason = describe_exit(
            exit_code,
            out_of_memory=member.engine_id in self._out_of_memory,
            memory_limit=member.workload.usage.memory,
        )
        self._publish(dead(member, reason))

    def _member(self, event: Mapping[str, Any]) -> Member:
        known = self._pairs.member(event["Actor"]["ID"])
        return known or member_of_event(event, WorkloadState.DEAD)
