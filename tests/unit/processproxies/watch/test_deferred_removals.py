"""The removal of workloads that appear after their launch was given up."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from harness.engines.fake_containers import FakeContainers
from harness.waiting import wait_in_thread

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.watch.containers import DockerWatch
from enterprise_gateway.services.processproxies.watch.deferred_removals import DeferredRemovals
from enterprise_gateway.settings import DelaySettings, LiveSettings, Settings

KERNEL_ID = "k"


class Rig:
    """Deferred removals on an engine that only the test changes.

    Attributes:
        failures: errors of the next removals.
        attempts: the number of removals that were tried.
    """

    def __init__(self, settle_seconds: float) -> None:
        delays = DelaySettings(engine_settle_seconds=settle_seconds, engine_retry_seconds=0.01)
        settings = Settings(delays=delays)
        live = LiveSettings(settings)
        self.containers = FakeContainers()
        watch = DockerWatch(DockerEngine(settings.docker), self.containers, live)
        self.removals = DeferredRemovals(watch, live)
        self.failures: list[Exception] = []
        self.attempts = 0
        self._watching = asyncio.create_task(watch.run())

    async def remove(self) -> None:
        """Remove all containers, or fail."""
        self.attempts += 1
        if self.failures:
            raise self.failures.pop()
        for container in await self.containers.list():
            await self.containers.remove(container["Id"])

    async def close(self) -> None:
        """Stop following the engine."""
        await self.removals.close()
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """Return a rig whose engine takes long to settle."""
    rig = Rig(settle_seconds=60.0)
    yield rig
    await rig.close()


async def test_workload_that_appears_later_is_removed(rig: Rig) -> None:
    """Each time that one appears."""
    rig.removals.schedule(KERNEL_ID, rig.remove)
    for container_id in ("first", "second"):
        rig.containers.put(container_id)
        await wait_in_thread(lambda expected=container_id: expected in rig.containers.removed)


async def test_failed_removal_is_repeated(rig: Rig) -> None:
    """An engine that is away removes nothing until it is back."""
    rig.failures = [UnavailableError("away")]
    rig.removals.schedule(KERNEL_ID, rig.remove)
    rig.containers.put("late")
    await wait_in_thread(lambda: rig.containers.removed == ["late"])
    assert rig.attempts > 1


async def test_next_launch_waits_until_the_engine_has_settled() -> None:
    """Until then a container of the earlier launch might appear."""
    rig = Rig(settle_seconds=0.1)
    try:
        rig.removals.schedule(KERNEL_ID, rig.remove)
        await rig.removals.wait("another")
        assert rig.attempts == 0
        await rig.removals.wait(KERNEL_ID)
        assert rig.attempts > 0
    finally:
        await rig.close()


async def test_close_removes_what_is_there_and_schedules_nothing_more(rig: Rig) -> None:
    """A gateway that stops does not wait for the engine to settle."""
    rig.removals.schedule(KERNEL_ID, rig.remove)
    await asyncio.sleep(0)
    await rig.removals.close()
    assert rig.attempts == 1
    rig.removals.schedule(KERNEL_ID, rig.remove)
    await rig.removals.wait(KERNEL_ID)
    assert rig.attempts == 1
