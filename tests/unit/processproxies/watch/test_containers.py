"""Following an engine's containers: kernels with sidecars, and unpaired halves."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from harness.engines.fake_containers import FakeContainers
from harness.waiting import wait_in_thread

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.resources import Usage, labels_of_usage
from enterprise_gateway.services.processproxies.watch.containers import DockerWatch
from enterprise_gateway.services.processproxies.workloads.containers import REMOVE_LABEL
from enterprise_gateway.settings import DelaySettings, LiveSettings, Settings

DEADLINE = 60.0
KERNEL, SIDECAR = "kernel", "sidecar"


class Followed:
    """A watch of an engine with one kernel, and the changes that it published."""

    def __init__(self, containers: FakeContainers, **seconds: float) -> None:
        settings = Settings(delays=DelaySettings(engine_retry_seconds=0.01, **seconds))
        self.containers = containers
        self.told: list[Workload] = []
        self._changed = asyncio.Condition()
        self.watch = DockerWatch(DockerEngine(settings.docker), containers, LiveSettings(settings))
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

    async def until(
        self, state: WorkloadState, host: str = "", *, is_paused: bool = False
    ) -> Workload:
        """Return the last change once it is as expected."""

        def is_so() -> bool:
            last = self.told[-1] if self.told else None
            address = last.endpoint.host if last is not None and last.endpoint is not None else ""
            if last is None or last.is_paused is not is_paused:
                return False
            return last.state is state and address == host

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
async def followed() -> AsyncIterator[Followed]:
    """Follow an engine with a kernel that gets a sidecar, impatiently."""
    followed = Followed(FakeContainers(), unpaired_grace_seconds=0.05)
    followed.containers.put(KERNEL)
    await followed.until(WorkloadState.RUNNING, KERNEL)
    followed.containers.put(SIDECAR, sidecar_of=KERNEL)
    await followed.until(WorkloadState.RUNNING, SIDECAR)
    yield followed
    await followed.close()


async def test_kernels_death_is_told_and_its_sidecar_removed(followed: Followed) -> None:
    """The sidecar has some seconds to end by itself."""
    followed.containers.kill(KERNEL)
    assert (await followed.until(WorkloadState.DEAD)).exit_reason == "exit code 137 (killed)"
    await followed.until_removed(SIDECAR)
    assert followed.told[-1].exit_reason == "exit code 137 (killed)"


async def test_cause_that_is_told_after_the_exit_counts(followed: Followed) -> None:
    """A busy engine tells of the exit before it tells that memory ran out."""
    followed.containers.kill(KERNEL, is_kept=True)
    followed.containers.tell(KERNEL, "oom")
    reason = (await followed.until(WorkloadState.DEAD)).exit_reason
    assert reason == "exit code 137 (out of memory)"


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [("137", "exit code 137 (out of memory: the limit is 300 MiB)"), ("0", ORDERLY_EXIT)],
)
async def test_container_that_ran_out_of_memory_is_told_its_limit(
    exit_code: str, reason: str
) -> None:
    """In the words of agents; one that ends orderly has lost only a process of the kernel."""
    alone = Followed(FakeContainers())
    try:
        alone.containers.put(KERNEL, **labels_of_usage(Usage(memory=300 << 20)))
        await alone.until(WorkloadState.RUNNING, KERNEL)
        alone.containers.tell(KERNEL, "oom")
        alone.containers.kill(KERNEL, is_kept=True, exit_code=exit_code)
        assert (await alone.until(WorkloadState.DEAD)).exit_reason == reason
    finally:
        await alone.close()


@pytest.mark.parametrize("is_kept", [True, False], ids=["killed", "removed"])
async def test_sidecars_death_is_the_kernels(followed: Followed, *, is_kept: bool) -> None:
    """The kernel is removed, then the sidecar."""
    followed.containers.kill(SIDECAR, is_kept=is_kept)
    reason = (await followed.until(WorkloadState.DEAD)).exit_reason
    assert reason == "its sidecar ended: exit code 137 (killed)"
    await followed.until_removed(*([KERNEL, SIDECAR] if is_kept else [KERNEL]))
    assert followed.told[-1].exit_reason == reason


async def test_orderly_end_of_both_leaves_nothing(followed: Followed) -> None:
    """The kernel's container is gone; a gateway removes the sidecar's."""
    followed.containers.kill(KERNEL, exit_code="0")
    await followed.until(WorkloadState.DEAD)
    followed.containers.kill(SIDECAR, is_kept=True, exit_code="0")
    await followed.until_removed(SIDECAR)


@pytest.mark.parametrize(
    ("lost", "removed"),
    [([KERNEL], [SIDECAR]), ([SIDECAR], [KERNEL]), ([KERNEL, SIDECAR], [])],
    ids=["kernel", "sidecar", "both"],
)
async def test_what_went_unseen_is_made_up_for(
    followed: Followed, lost: list[str], removed: list[str]
) -> None:
    """Everything is listed again when the connection is back."""
    for container_id in lost:
        followed.containers.forget(container_id)
    followed.containers.end_events()
    await followed.until(WorkloadState.DEAD)
    await followed.until_removed(*removed)


@pytest.mark.parametrize("dead", [KERNEL, SIDECAR])
async def test_half_of_a_pair_is_removed_by_a_later_gateway(dead: str) -> None:
    """A dead sidecar means that the kernel is dead; neither is published as running."""
    containers = FakeContainers()
    containers.put(KERNEL)
    containers.put(SIDECAR, sidecar_of=KERNEL)
    containers.kill(dead, is_kept=True)
    containers.drop_events()
    later = Followed(containers, unpaired_grace_seconds=0.05)
    try:
        if dead == KERNEL:
            await later.until_removed(SIDECAR)
        else:
            await later.until_removed(KERNEL, SIDECAR)
        assert {workload.state for workload in later.told} <= {WorkloadState.DEAD}
    finally:
        await later.close()


def known_ids(followed: Followed) -> set[str]:
    """Return the ids of the kernels' containers that are known."""
    return {key.kernel_container_id for key in followed.watch.known}


@pytest.mark.parametrize("is_removed", [True, False], ids=["labelled", "kept"])
@pytest.mark.parametrize("is_seen", [True, False], ids=["seen to die", "found dead"])
async def test_container_that_has_ended_is_removed_if_its_label_says_so(
    *, is_removed: bool, is_seen: bool
) -> None:
    """By a gateway that saw it end, or by one that starts later. Others are kept."""
    containers = FakeContainers()
    containers.put(KERNEL, **{REMOVE_LABEL: "true" if is_removed else ""})
    containers.kernel_id = "other"
    containers.put("other", **{REMOVE_LABEL: "true"})
    if not is_seen:
        containers.kill(KERNEL, is_kept=True)
        containers.drop_events()
    followed = Followed(containers, ended_container_seconds=0.05)
    try:
        await wait_in_thread(lambda: KERNEL in known_ids(followed))
        if is_seen:
            containers.kill(KERNEL, is_kept=True, exit_code="0")
        containers.kill("other", is_kept=True)
        expected = {"other", KERNEL} if is_removed else {"other"}
        async with asyncio.timeout(DEADLINE):
            while set(containers.removed) != expected:
                containers.changed.clear()
                await containers.changed.wait()
        assert known_ids(followed) == {KERNEL, "other"} - expected
    finally:
        await followed.close()


async def test_pause_is_told(followed: Followed) -> None:
    """The container runs on without its processes; then they go on."""
    for action, is_paused in (("pause", True), ("unpause", False)):
        followed.containers.tell(KERNEL, action)
        await followed.until(WorkloadState.RUNNING, SIDECAR, is_paused=is_paused)
