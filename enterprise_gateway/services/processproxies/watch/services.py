"""Following the swarm's services.

Swarm sends events about services and nodes, but not about tasks. Tasks of services that are
starting are listed five times a second, all with one call. Of a running task only the end matters,
and Swarm changes its desired state then, so the few tasks with such a state are listed every few
seconds. That is a safety net: a replica that is connected to the kernel's agent learns of its end
at once.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from enterprise_gateway.errors import NotFoundError
from enterprise_gateway.services.processproxies.contract import ORDERLY_EXIT, WorkloadState
from enterprise_gateway.services.processproxies.engine.client import DockerEngine, NotAManagerError
from enterprise_gateway.services.processproxies.engine.services import DockerServices
from enterprise_gateway.services.processproxies.watch.base import (
    EVENT_OVERLAP_SECONDS,
    EngineWatch,
    dead,
)
from enterprise_gateway.services.processproxies.watch.cleanup import CleanupSchedule
from enterprise_gateway.services.processproxies.watch.swarm_cache import SwarmCache
from enterprise_gateway.services.processproxies.workloads.services import is_kept, launch_timeout_of
from enterprise_gateway.services.processproxies.workloads.sidecars import PairKey
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Service
from enterprise_gateway.settings import LiveSettings

_RELIST_SECONDS = 300.0
"""How often everything is listed again, in case an event was lost."""

_log = logging.getLogger(__name__)


class SwarmWatch(EngineWatch):
    """Keeps track of the kernels' services, and removes those that have ended."""

    def __init__(
        self, engine: DockerEngine, services: DockerServices, settings: LiveSettings
    ) -> None:
        super().__init__(engine, settings)
        self._services = services
        self._cache = SwarmCache()
        self._cleanup = CleanupSchedule()
        self._changed = asyncio.Event()
        self._changed_services: set[str] = set()
        """Ids of services that had events."""
        self._nodes_changed = False
        self._polled: set[str] = set()
        """Ids of services whose tasks are listed often."""
        self._tasks_due = 0.0
        self._ended_due = 0.0
        self._relist_due = 0.0

    def service(self, name: str) -> Service | None:
        """Return a service as it was last seen, None if there is none. The engine is not asked."""
        return self._cache.by_name(name)

    async def _sync(self) -> None:
        try:
            async with self._services.events(time.time() - EVENT_OVERLAP_SECONDS) as events:
                await self._list()
                self._record_answer()
                reading = asyncio.create_task(self._read_events(events))
                try:
                    await self._reconcile(reading)
                finally:
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
        except NotAManagerError:
            await _wait(self._services.managed, self._delays.no_swarm_seconds)

    async def _read_events(self, events: AsyncIterator[Mapping[str, Any]]) -> None:
        """Record which objects the events are about."""
        try:
            async for event in events:
                if event["Type"] == "service":
                    self._changed_services.add(event["Actor"]["ID"])
                else:
                    self._nodes_changed = True
                self._changed.set()
        finally:
            self._changed.set()

    async def _list(self) -> None:
        # Tasks first, so that none is left of a service that is removed between the calls.
        nodes = await self._services.nodes()
        tasks = await self._services.tasks()
        services = await self._services.services()
        for service_id in self._cache.replace(services, tasks, nodes):
            self._drop(service_id)
        self._publish_services(self._cache.services)

    async def _reconcile(self, reading: asyncio.Task[None]) -> None:
        """Refresh what may have changed, until the events end or it is time to list everything."""
        loop = asyncio.get_running_loop()
        self._ended_due = loop.time() + self._delays.ended_tasks_seconds
        self._relist_due = loop.time() + _RELIST_SECONDS
        while loop.time() < self._relist_due:
            await _wait(self._changed, self._next_due() - loop.time())
            if reading.done():
                await reading
                return
            self._changed.clear()
            await self._refresh_nodes()
            await self._refresh_services()
            if self._polled and loop.time() >= self._tasks_due:
                await self._refresh_tasks()
                self._tasks_due = loop.time() + self._delays.starting_tasks_seconds
            if loop.time() >= self._ended_due:
                self._publish_services(self._cache.add_tasks(await self._services.ended_tasks()))
                self._ended_due = loop.time() + self._delays.ended_tasks_seconds
            await self._remove_due()

    def _next_due(self) -> float:
        due = [self._ended_due, self._relist_due]
        if self._polled:
            due.append(self._tasks_due)
        removal_due = self._cleanup.next_due()
        if removal_due is not None:
            due.append(removal_due)
        return min(due)

    async def _refresh_nodes(self) -> None:
        if self._nodes_changed:
            self._nodes_changed = False
            concerned = self._cache.replace_nodes(await self._services.nodes())
            self._polled |= concerned
            self._publish_services(concerned)

    async def _refresh_services(self) -> None:
        changed, self._changed_services = self._changed_services, set()
        if changed:
            found = self._cache.add_services(await self._services.services(ids=sorted(changed)))
            self._polled |= found & changed
            self._publish_services(found & changed)
            for service_id in changed - found:
                self._drop(service_id)

    async def _refresh_tasks(self) -> None:
        try:
            tasks = await self._services.tasks_of(sorted(self._polled))
        except NotFoundError:  # one is gone: the list of services says which
            self._changed_services |= self._polled
            self._changed.set()
            return
        self._publish_services(self._cache.add_tasks(tasks))
        self._polled = set(filter(self._needs_polling, self._polled))

    def _needs_polling(self, service_id: str) -> bool:
        """Return whether a service's task may change soon."""
        member = self._pairs.member(service_id)
        if member is None or member.is_dead:
            return False
        if member.workload.state is WorkloadState.RUNNING:
            return self._cache.is_on_down_node(service_id)
        return True

    async def _remove_due(self) -> None:
        now = asyncio.get_running_loop().time()
        for service_id in self._cleanup.due(now):
            service = self._cache.services[service_id]
            _log.info("Removing the service %s of kernel %s", service.spec.name, service.kernel_id)
            self._cleanup.postpone(service_id, now + self._delays.service_removal_retry_seconds)
            await self._services.remove(service_id)
            self._drop(service_id)

    def _publish_services(self, service_ids: Iterable[str]) -> None:
        """Publish the state of services, and decide which of them to poll or to remove."""
        # Sidecars last: a sidecar whose kernel has not been seen yet would look unpaired.
        services = self._cache.services
        for service_id in sorted(service_ids, key=lambda each: services[each].sidecar_of):
            member = self._cache.member(service_id, self._network)
            detail = ""
            if member.workload.state is WorkloadState.STARTING:
                detail = self._cache.describe_wait(service_id)
                known = self._pairs.member(service_id)
                if known is not None and known.workload.state is WorkloadState.RUNNING:
                    # A swarm that keeps no task history forgets ended tasks at once.
                    member = dead(known, "its task disappeared")
            self._publish(member, detail)
            if self._needs_polling(service_id):
                self._polled.add(service_id)
            self._schedule_removals(member.pair)

    def _schedule_removals(self, key: PairKey) -> None:
        """Set or clear the deadlines of a kernel's service and of its sidecar's."""
        pair = self._pairs.get(key)
        if pair is None:
            return
        now = asyncio.get_running_loop().time()
        for member in pair.members:
            service = self._cache.services.get(member.engine_id)
            if service is None:
                continue
            self._cleanup.schedule(
                member.engine_id,
                pair.workload if member.is_dead else member.workload,
                now,
                self._delays,
                launch_timeout=launch_timeout_of(service),
                is_kept=is_kept(service),
                is_unpaired=member.engine_id == pair.unpaired_id,
            )

    def _drop(self, service_id: str) -> None:
        """Forget a service that was removed: by a gateway or an operator, as Swarm removes none."""
        member = self._pairs.member(service_id)
        known = self.known.get(member.pair) if member is not None else None
        self._publish_removed(service_id, ORDERLY_EXIT)
        self._cache.drop(service_id)
        self._cleanup.forget(service_id)
        self._polled.discard(service_id)
        if member is None or known is None:
            return
        self._schedule_removals(member.pair)
        is_removed = member.pair not in self.known
        was_dead = known.state is WorkloadState.DEAD
        if is_removed and was_dead and not self._is_alive(known.kernel_id):
            self.feed.publish(dataclasses.replace(known, state=WorkloadState.GONE))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, for that long at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
