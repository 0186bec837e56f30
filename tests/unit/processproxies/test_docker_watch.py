"""How a gateway follows an engine's containers: kernels with companions, and half of them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from harness.fake_containers import FakeContainers

from enterprise_gateway.services.processproxies import engine_watch
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine
from enterprise_gateway.services.processproxies.docker_watch import DockerWatch
from enterprise_gateway.settings import DockerSettings

DEADLINE = 5.0
KERNEL, COMPANION = "kernel", "companion"


class Followed:
    """A watch of an engine, and what it has told of the one kernel there."""

    def __init__(self, containers: FakeContainers) -> None:
        self.containers = containers
        self.told: list[Workload] = []
        self._changed = asyncio.Condition()
        self.watch = DockerWatch(DockerEngine(DockerSettings()), containers, lambda: "bridge")
        self._tasks = [
            asyncio.create_task(self._follow()),
            asyncio.create_task(self.watch.run()),
        ]

    async def _follow(self) -> None:
        with self.watch.feed.follow() as changes:
            async for workload in changes:
                async with self._changed:
                    self.told.append(workload)
                    self._changed.notify_all()

    async def until(self, state: WorkloadState, host: str = "") -> Workload:
        """Return what was told last once it is that."""

        def is_so() -> bool:
            last = self.told[-1] if self.told else None
            address = last.endpoint.host if last is not None and last.endpoint is not None else ""
            return last is not None and last.state is state and address == host

        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(is_so)
        return self.told[-1]

    async def until_removed(self, *container_ids: str) -> None:
        """Wait until these have been removed, in this order."""
        async with asyncio.timeout(DEADLINE):
            while self.containers.removed != [*container_ids]:
                self.containers.changed.clear()
                await self.containers.changed.wait()

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def followed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Followed]:
    """Follow an engine with a kernel that gets a companion, impatiently."""
    monkeypatch.setattr(engine_watch, "PARTING_DELAY", 0.05)
    monkeypatch.setattr(engine_watch, "_FIRST_PAUSE", 0.01)
    followed = Followed(FakeContainers())
    followed.containers.put(KERNEL)
    await followed.until(WorkloadState.RUNNING, KERNEL)
    followed.containers.put(COMPANION, companion_of=KERNEL)
    await followed.until(WorkloadState.RUNNING, COMPANION)
    yield followed
    await followed.close()


async def test_kernels_death_is_told_and_its_companion_removed(followed: Followed) -> None:
    """The companion has some seconds to say what it saw."""
    followed.containers.kill(KERNEL)
    assert (await followed.until(WorkloadState.DEAD)).exit_reason == "exit code 137 (killed)"
    await followed.until_removed(COMPANION)
    assert followed.told[-1].exit_reason == "exit code 137 (killed)"


@pytest.mark.parametrize("is_kept", [True, False], ids=["killed", "removed"])
async def test_companions_death_is_the_kernels(followed: Followed, *, is_kept: bool) -> None:
    """The kernel is removed, and then what is left of the companion."""
    followed.containers.kill(COMPANION, is_kept=is_kept)
    reason = (await followed.until(WorkloadState.DEAD)).exit_reason
    assert reason == "its companion ended: exit code 137 (killed)"
    await followed.until_removed(*([KERNEL, COMPANION] if is_kept else [KERNEL]))
    assert followed.told[-1].exit_reason == reason


async def test_orderly_end_of_both_leaves_nothing(followed: Followed) -> None:
    """The kernel's container goes by itself, the companion's by a gateway's hand."""
    followed.containers.kill(KERNEL, exit_code="0")
    await followed.until(WorkloadState.DEAD)
    followed.containers.kill(COMPANION, is_kept=True, exit_code="0")
    await followed.until_removed(COMPANION)


@pytest.mark.parametrize(
    ("lost", "removed"),
    [([KERNEL], [COMPANION]), ([COMPANION], [KERNEL]), ([KERNEL, COMPANION], [])],
    ids=["kernel", "companion", "both"],
)
async def test_what_went_unseen_is_made_up_for(
    followed: Followed, lost: list[str], removed: list[str]
) -> None:
    """All is listed again when the connection comes back."""
    for container_id in lost:
        followed.containers.forget(container_id)
    followed.containers.end_events()
    await followed.until(WorkloadState.DEAD)
    await followed.until_removed(*removed)


@pytest.mark.parametrize("dead", [KERNEL, COMPANION])
async def test_half_of_a_couple_is_removed_by_whoever_comes_later(
    followed: Followed, dead: str
) -> None:
    """The dead companion tells that the kernel is of no use; of neither anybody is told."""
    containers = FakeContainers()
    containers.put(KERNEL)
    containers.put(COMPANION, companion_of=KERNEL)
    containers.kill(dead, is_kept=True)
    containers.drop_events()
    later = Followed(containers)
    try:
        if dead == KERNEL:
            await later.until_removed(COMPANION)
        else:
            await later.until_removed(KERNEL, COMPANION)
        assert {workload.state for workload in later.told} <= {WorkloadState.DEAD}
    finally:
        await later.close()
    del followed
