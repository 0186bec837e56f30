"""Following a swarm: which lists the gateway requests, how often, and what it publishes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from harness.delays import change_delays

from enterprise_gateway.errors import NotFoundError, UnavailableError
from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.engine.client import DockerEngine, NotAManagerError
from enterprise_gateway.services.processproxies.engine.services import DockerServices
from enterprise_gateway.services.processproxies.watch.services import SwarmWatch
from enterprise_gateway.services.processproxies.workloads.sidecars import SIDECAR_LABEL
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Node, Service, Task
from enterprise_gateway.settings import DelaySettings, DockerSettings, LiveSettings, Settings

DEADLINE = 60.0


IMPATIENT = DelaySettings(
    starting_tasks_seconds=0.02,
    ended_tasks_seconds=0.05,
    service_removal_retry_seconds=0.05,
    no_swarm_seconds=0.05,
    engine_retry_seconds=0.01,
)


class FakeSwarm(DockerServices):
    """A swarm that only the test changes.

    Attributes:
        calls: how often each question was asked.
        asked: set whenever one is.
        failures: errors for the next removals.
    """

    def __init__(self) -> None:
        super().__init__(DockerEngine(DockerSettings()), "")
        self.calls: Counter[str] = Counter()
        self.asked = asyncio.Event()
        self.failures: list[Exception] = []
        self.is_manager = True
        self._states: dict[str, str] = {}
        self._kernels: dict[str, str] = {}
        self._events: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()

    def _count(self, question: str) -> None:
        self.calls[question] += 1
        self.asked.set()

    def tell(self, service_id: str) -> None:
        """Send the event that a service has changed."""
        self._events.put_nowait({"Type": "service", "Actor": {"ID": service_id}})

    def put(self, service_id: str, state: str, *, silently: bool = False) -> None:
        """Add or change a service with a task in a state, or without one if it is empty."""
        is_new = service_id not in self._states
        self._states[service_id] = state
        if is_new and not silently:
            self.tell(service_id)

    def put_sidecar(self, service_id: str, kernel: str, state: str) -> None:
        """Add the sidecar of a service."""
        self._kernels[service_id] = kernel
        self.put(service_id, state)

    def drop(self, service_id: str, *, silently: bool = False) -> None:
        """Remove a service."""
        del self._states[service_id]
        if not silently:
            self.tell(service_id)

    def end_events(self) -> None:
        """Cut the connection."""
        self._events.put_nowait(None)

    async def services(
        self, *, kernel_id: str | None = None, ids: Sequence[str] | None = None
    ) -> list[Service]:
        """See the base class."""
        del kernel_id
        self._count("services")
        if not self.is_manager:
            raise NotAManagerError("not a swarm manager")
        self.managed.set()
        wanted = self._states if ids is None else [each for each in ids if each in self._states]
        created = "2026-11-22T15:30:42Z"
        entries = [
            {
                "ID": each,
                "CreatedAt": created,
                "Spec": {"Name": each, "Labels": self._labels(each)},
            }
            for each in wanted
        ]
        return msgspec.convert(entries, list[Service])

    def _labels(self, service_id: str) -> dict[str, str]:
        kernel = self._kernels.get(service_id)
        if kernel is None:
            return {"kernel_id": service_id}
        return {"kernel_id": kernel, SIDECAR_LABEL: kernel}

    async def tasks(self, *, kernel_id: str | None = None) -> list[Task]:
        """See the base class."""
        del kernel_id
        self._count("tasks")
        return [task(each, state) for each, state in self._states.items() if state]

    async def tasks_of(self, service_ids: Sequence[str]) -> list[Task]:
        """See the base class."""
        self._count("tasks_of")
        for each in service_ids:
            if each not in self._states:
                raise NotFoundError(f"service {each} not found")
        return [task(each, self._states[each]) for each in service_ids if self._states[each]]

    async def ended_tasks(self) -> list[Task]:
        """See the base class."""
        self._count("ended_tasks")
        ended = ("complete", "failed")
        return [task(each, state) for each, state in self._states.items() if state in ended]

    async def nodes(self) -> list[Node]:
        """See the base class."""
        if not self.is_manager:
            raise NotAManagerError("not a swarm manager")
        return []

    async def remove(self, service_id: str) -> None:
        """See the base class."""
        self._count("remove")
        if self.failures:
            raise self.failures.pop()
        self.drop(service_id)

    @asynccontextmanager
    async def events(self, since: float) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """See the base class."""
        del since
        self._count("events")

        async def received() -> AsyncIterator[Mapping[str, Any]]:
            while (event := await self._events.get()) is not None:
                yield event

        yield received()


def task(service_id: str, state: str) -> Task:
    """Return a service's task."""
    entry = {
        "ServiceID": service_id,
        "CreatedAt": "2026-11-22T15:30:43Z",
        "DesiredState": "shutdown" if state in ("complete", "failed") else "running",
        "Status": {"State": state, "ContainerStatus": {"ExitCode": 3}},
    }
    return msgspec.convert(entry, Task)


class Followed:
    """A watch of a swarm, and the changes that it published."""

    def __init__(self, swarm: FakeSwarm) -> None:
        self.swarm = swarm
        self.latest: dict[str, Workload] = {}
        self._changed = asyncio.Condition()
        docker = DockerSettings(network="kernels")
        self.live = LiveSettings(Settings(docker=docker, delays=IMPATIENT))
        self.watch = SwarmWatch(DockerEngine(docker), swarm, self.live)
        self._tasks = [
            asyncio.create_task(self._follow()),
            asyncio.create_task(self.watch.run()),
        ]

    async def _follow(self) -> None:
        with self.watch.feed.follow() as changes:
            async for workload in changes:
                async with self._changed:
                    self.latest[workload.kernel_id] = workload
                    self._changed.notify_all()

    async def until(self, kernel_id: str, state: WorkloadState) -> Workload:
        """Return a kernel's workload once its published state is as expected."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(
                lambda: kernel_id in self.latest and self.latest[kernel_id].state is state
            )
        return self.latest[kernel_id]

    async def until_called(self, question: str, times: int) -> None:
        """Wait until a list was requested that often."""
        async with asyncio.timeout(DEADLINE):
            while self.swarm.calls[question] < times:
                self.swarm.asked.clear()
                await self.swarm.asked.wait()

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def followed() -> AsyncIterator[Followed]:
    """Follow a swarm that has the running services `old` and `older`."""
    swarm = FakeSwarm()
    swarm.put("old", "running", silently=True)
    swarm.put("older", "running", silently=True)
    followed = Followed(swarm)
    yield followed
    await followed.close()


async def test_start_is_followed_task_by_task(followed: Followed) -> None:
    """Everything is listed once; then only those that are starting, with one call for all."""
    await followed.until("old", WorkloadState.RUNNING)
    for service_id in ("s1", "s2", "s3"):
        followed.swarm.put(service_id, "")
    for service_id in ("s1", "s2", "s3"):
        await followed.until(service_id, WorkloadState.STARTING)
    asked = followed.swarm.calls["tasks_of"]
    await followed.until_called("tasks_of", asked + 5)
    assert followed.swarm.calls["services"] <= 1 + 3
    for service_id in ("s1", "s2", "s3"):
        followed.swarm.put(service_id, "running")
    for service_id in ("s1", "s2", "s3"):
        await followed.until(service_id, WorkloadState.RUNNING)
    asked = followed.swarm.calls["tasks_of"]
    await followed.until_called("ended_tasks", followed.swarm.calls["ended_tasks"] + 3)
    assert followed.swarm.calls["tasks_of"] <= asked + 1
    assert followed.swarm.calls["tasks"] == 1


async def test_dead_service_is_found_and_removed(followed: Followed) -> None:
    """No event reports it. A failed removal is repeated."""
    change_delays(followed.live, tombstone_seconds=0.05)
    followed.swarm.failures = [UnavailableError("not now"), UnavailableError("nor now")]
    await followed.until("old", WorkloadState.RUNNING)
    followed.swarm.put("old", "failed")
    assert (await followed.until("old", WorkloadState.DEAD)).exit_reason == "exit code 3"
    await followed.until_called("remove", 3)
    await followed.until("old", WorkloadState.GONE)
    assert await followed.swarm.services(ids=["old"]) == []
    assert followed.latest["older"].state is WorkloadState.RUNNING


async def test_service_that_goes_while_it_starts_is_dead(followed: Followed) -> None:
    """Listing the tasks of all starting services fails then; the others start all the same."""
    followed.swarm.put("s1", "starting")
    followed.swarm.put("s2", "starting")
    await followed.until("s1", WorkloadState.STARTING)
    await followed.until("s2", WorkloadState.STARTING)
    followed.swarm.drop("s1", silently=True)
    followed.swarm.put("s2", "running")
    assert (await followed.until("s1", WorkloadState.DEAD)).exit_reason == ORDERLY_EXIT
    await followed.until("s2", WorkloadState.RUNNING)


async def test_removal_is_told_by_its_event(followed: Followed) -> None:
    """Its end was requested, because Swarm removes no services by itself."""
    await followed.until("old", WorkloadState.RUNNING)
    followed.swarm.drop("old")
    assert (await followed.until("old", WorkloadState.DEAD)).exit_reason == ORDERLY_EXIT


async def test_removal_of_a_dead_service_is_told(followed: Followed) -> None:
    """The service was the only record of the dead kernel for all replicas."""
    followed.swarm.put("old", "failed")
    assert (await followed.until("old", WorkloadState.DEAD)).is_tombstone
    followed.swarm.drop("old")
    await followed.until("old", WorkloadState.GONE)


async def test_what_happened_without_a_connection_is_made_up_for(followed: Followed) -> None:
    """Everything is listed again when the events end."""
    await followed.until("old", WorkloadState.RUNNING)
    followed.swarm.drop("old", silently=True)
    followed.swarm.put("new", "running", silently=True)
    followed.swarm.put("older", "", silently=True)
    followed.swarm.end_events()
    await followed.until("new", WorkloadState.RUNNING)
    await followed.until("old", WorkloadState.DEAD)
    # as in a swarm that keeps no history of tasks
    assert (await followed.until("older", WorkloadState.DEAD)).exit_reason.endswith("disappeared")


async def test_engine_may_become_a_manager() -> None:
    """Until then nothing is published."""
    swarm = FakeSwarm()
    swarm.is_manager = False
    swarm.put("s1", "running", silently=True)
    followed = Followed(swarm)
    await followed.until_called("events", 2)
    assert followed.latest == {}
    swarm.is_manager = True
    await followed.until("s1", WorkloadState.RUNNING)
    await followed.close()


@pytest.fixture
async def with_sidecar(followed: Followed) -> Followed:
    """Give `old` a sidecar that runs; the other half of a pair is removed soon."""
    change_delays(
        followed.live,
        unpaired_grace_seconds=0.05,
        tombstone_seconds=3.0,
        ended_service_seconds=0.05,
    )
    await followed.until("old", WorkloadState.RUNNING)
    followed.swarm.put_sidecar("agent", "old", "starting")
    await followed.until("old", WorkloadState.STARTING)
    followed.swarm.put("agent", "running")
    await followed.until("old", WorkloadState.RUNNING)
    return followed


async def services(followed: Followed) -> set[str]:
    """Return the ids of the services that are there."""
    return {each.id for each in await followed.swarm.services()}


async def test_kernel_whose_sidecar_ends_is_dead_and_removed(with_sidecar: Followed) -> None:
    """The sidecar's service stays as the tombstone."""
    with_sidecar.swarm.put("agent", "failed")
    dead = await with_sidecar.until("old", WorkloadState.DEAD)
    assert dead.exit_reason == "its sidecar ended: exit code 3"
    assert dead.is_tombstone
    await with_sidecar.until_called("remove", 1)
    assert await services(with_sidecar) == {"agent", "older"}
    await with_sidecar.until("old", WorkloadState.GONE)
    assert await services(with_sidecar) == {"older"}


async def test_sidecar_whose_kernel_ends_is_removed(with_sidecar: Followed) -> None:
    """The kernel's own service stays as the tombstone."""
    with_sidecar.swarm.put("old", "failed")
    assert (await with_sidecar.until("old", WorkloadState.DEAD)).exit_reason == "exit code 3"
    await with_sidecar.until_called("remove", 1)
    assert await services(with_sidecar) == {"old", "older"}
    await with_sidecar.until("old", WorkloadState.GONE)
    assert await services(with_sidecar) == {"older"}


async def test_orderly_end_of_a_sidecar_is_that_of_both(with_sidecar: Followed) -> None:
    """The sidecar has ended its kernel, whatever the kernel's exit code."""
    with_sidecar.swarm.put("agent", "complete")
    dead = await with_sidecar.until("old", WorkloadState.DEAD)
    assert dead.exit_reason == ORDERLY_EXIT
    with_sidecar.swarm.put("old", "failed")
    await with_sidecar.until_called("remove", 2)
    assert await services(with_sidecar) == {"older"}


async def test_kernel_that_ended_by_itself_is_told_of_as_long_as_its_sidecar(
    with_sidecar: Followed,
) -> None:
    """The kernel's exit code 0 is not an orderly end: no client requested it."""
    with_sidecar.swarm.put("old", "complete")
    dead = await with_sidecar.until("old", WorkloadState.DEAD)
    assert dead.exit_reason.startswith("its container ended by itself")
    with_sidecar.swarm.put("agent", "failed")
    await with_sidecar.until("old", WorkloadState.GONE)
    assert await services(with_sidecar) == {"older"}


async def test_pair_is_one_workload_for_a_later_gateway(with_sidecar: Followed) -> None:
    """In either order of the swarm's list."""
    with_sidecar.swarm.put("agent", "failed")
    await with_sidecar.until("old", WorkloadState.DEAD)
    later = Followed(with_sidecar.swarm)
    try:
        dead = await later.until("old", WorkloadState.DEAD)
        assert dead.exit_reason == "its sidecar ended: exit code 3"
        assert dead.is_tombstone
    finally:
        await later.close()
