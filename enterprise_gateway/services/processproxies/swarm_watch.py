"""The swarm's services, followed.

Swarm tells of services and nodes by events, but not of tasks: those of services that are starting
are listed five times a second, all with one call. Of a task that runs, only the end is of interest,
and Swarm changes its desired state then: those few are asked for every few seconds. That is a
safety net; whoever is connected to the kernel's agent learns of its end at once.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from enterprise_gateway.errors import NotFoundError
from enterprise_gateway.services.processproxies.contract import ORDERLY_EXIT, WorkloadState
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine, NotAManagerError
from enterprise_gateway.services.processproxies.docker_services import DockerServices
from enterprise_gateway.services.processproxies.engine_watch import (
    EVENT_OVERLAP,
    EngineWatch,
    dead,
)
from enterprise_gateway.services.processproxies.swarm_broom import SwarmBroom
from enterprise_gateway.services.processproxies.swarm_objects import Service
from enterprise_gateway.services.processproxies.swarm_picture import SwarmPicture
from enterprise_gateway.services.processproxies.swarm_workloads import is_kept, launch_timeout_of

_TASKS_PAUSE = 0.2
_ENDED_PAUSE = 5.0
_WHOLE_PAUSE = 300.0
"""Seconds between two lists of everything, in case an event was lost."""
_NO_SWARM_PAUSE = 15.0
_SWEEP_PAUSE = 5.0
"""Seconds until a service that could not be removed is tried again."""

_log = logging.getLogger(__name__)


class SwarmWatch(EngineWatch):
    """Knows the kernels' services, and sweeps away those that have ended."""

    def __init__(
        self, engine: DockerEngine, services: DockerServices, network: Callable[[], str]
    ) -> None:
        super().__init__(engine)
        self._services = services
        self._network = network
        self._picture = SwarmPicture()
        self._broom = SwarmBroom()
        self._news = asyncio.Event()
        self._touched: set[str] = set()
        """Services that events told of."""
        self._nodes_changed = False
        self._unsettled: set[str] = set()
        """Services whose tasks are to be asked for."""
        self._tasks_due = 0.0
        self._ended_due = 0.0
        self._whole_due = 0.0

    def service(self, name: str) -> Service | None:
        """Return a service as it was last seen, without asking; None if it was not."""
        return self._picture.named(name)

    async def _follow(self) -> None:
        try:
            async with self._services.events(time.time() - EVENT_OVERLAP) as events:
                await self._list()
                self._note_answer()
                hearing = asyncio.create_task(self._hear(events))
                try:
                    await self._keep_up(hearing)
                finally:
                    hearing.cancel()
                    await asyncio.gather(hearing, return_exceptions=True)
        except NotAManagerError:
            await _wait(self._services.managed, _NO_SWARM_PAUSE)

    async def _hear(self, events: AsyncIterator[Mapping[str, Any]]) -> None:
        """Take note of what events are about."""
        try:
            async for event in events:
                if event["Type"] == "service":
                    self._touched.add(event["Actor"]["ID"])
                else:
                    self._nodes_changed = True
                self._news.set()
        finally:
            self._news.set()

    async def _list(self) -> None:
        # Tasks first: of a service that goes in between nothing is left then.
        nodes = await self._services.nodes()
        tasks = await self._services.tasks()
        services = await self._services.services()
        for service_id in self._picture.replace(services, tasks, nodes):
            self._drop(service_id)
        self._show(self._picture.services)

    async def _keep_up(self, hearing: asyncio.Task[None]) -> None:
        """Ask whenever there is a reason to, until the events end or everything is due again."""
        loop = asyncio.get_running_loop()
        self._ended_due = loop.time() + _ENDED_PAUSE
        self._whole_due = loop.time() + _WHOLE_PAUSE
        while loop.time() < self._whole_due:
            await _wait(self._news, self._next_due() - loop.time())
            if hearing.done():
                await hearing
                return
            self._news.clear()
            await self._look_at_nodes()
            await self._look_at_services()
            if self._unsettled and loop.time() >= self._tasks_due:
                await self._look_at_tasks()
                self._tasks_due = loop.time() + _TASKS_PAUSE
            if loop.time() >= self._ended_due:
                self._show(self._picture.add_tasks(await self._services.ended_tasks()))
                self._ended_due = loop.time() + _ENDED_PAUSE
            await self._sweep()

    def _next_due(self) -> float:
        due = [self._ended_due, self._whole_due]
        if self._unsettled:
            due.append(self._tasks_due)
        sweep_due = self._broom.next_due()
        if sweep_due is not None:
            due.append(sweep_due)
        return min(due)

    async def _look_at_nodes(self) -> None:
        if self._nodes_changed:
            self._nodes_changed = False
            concerned = self._picture.put_nodes(await self._services.nodes())
            self._unsettled |= concerned
            self._show(concerned)

    async def _look_at_services(self) -> None:
        touched, self._touched = self._touched, set()
        if touched:
            found = self._picture.add_services(await self._services.services(ids=sorted(touched)))
            self._unsettled |= found & touched
            self._show(found & touched)
            for service_id in touched - found:
                self._drop(service_id)

    async def _look_at_tasks(self) -> None:
        try:
            tasks = await self._services.tasks_of(sorted(self._unsettled))
        except NotFoundError:  # which one is gone, the list of services will tell
            self._touched |= self._unsettled
            self._news.set()
            return
        self._show(self._picture.add_tasks(tasks))
        self._unsettled = set(filter(self._is_unsettled, self._unsettled))

    def _is_unsettled(self, service_id: str) -> bool:
        """Whether a service's task is about to change."""
        part = self._couples.part(service_id)
        if part is None or part.is_dead:
            return False
        if part.workload.state is WorkloadState.RUNNING:
            return self._picture.is_on_down_node(service_id)
        return True

    async def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for service_id in self._broom.due(now):
            service = self._picture.services[service_id]
            _log.info("Removing the service %s of kernel %s", service.spec.name, service.kernel_id)
            self._broom.postpone(service_id, now + _SWEEP_PAUSE)
            await self._services.remove(service_id)
            self._drop(service_id)

    def _show(self, service_ids: Iterable[str]) -> None:
        """Publish what the picture says of services, and have an eye on those that need it."""
        # Companions last: one whose kernel has not been seen would seem to be alone.
        services = self._picture.services
        for service_id in sorted(service_ids, key=lambda each: services[each].companion_of):
            part = self._picture.part(service_id, self._network())
            detail = ""
            if part.workload.state is WorkloadState.STARTING:
                detail = self._picture.describe_wait(service_id)
                known = self._couples.part(service_id)
                if known is not None and known.workload.state is WorkloadState.RUNNING:
                    # Swarm forgets ended tasks at once if it was told to keep no history.
                    part = dead(known, "its task disappeared")
            self._publish(part, detail)
            if self._is_unsettled(service_id):
                self._unsettled.add(service_id)
            self._make_appointments(part.subject)

    def _make_appointments(self, subject: str) -> None:
        """Have what there is of a kernel removed when it is time."""
        couple = self._couples.get(subject)
        if couple is None:
            return
        now = asyncio.get_running_loop().time()
        for part in couple.parts:
            service = self._picture.services.get(part.engine_id)
            if service is None:
                continue
            self._broom.note(
                part.engine_id,
                couple.workload if part.is_dead else part.workload,
                now,
                launch_timeout=launch_timeout_of(service),
                is_kept=is_kept(service),
                is_left=part.engine_id == couple.survivor,
            )

    def _drop(self, service_id: str) -> None:
        """Let go of a service that is no longer there: Swarm removes none by itself."""
        part = self._couples.part(service_id)
        known = self.known.get(part.subject) if part is not None else None
        self._publish_gone(service_id, ORDERLY_EXIT)
        self._picture.drop(service_id)
        self._broom.forget(service_id)
        self._unsettled.discard(service_id)
        if part is None or known is None:
            return
        self._make_appointments(part.subject)
        is_all_gone = part.subject not in self.known
        was_dead = known.state is WorkloadState.DEAD
        if is_all_gone and was_dead and not self._lives(known.kernel_id):
            self.feed.publish(dataclasses.replace(known, state=WorkloadState.GONE))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not longer than that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
