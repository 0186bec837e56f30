"""The memory of workloads that have ended."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from enterprise_gateway.services.kernels.registry.ended import EndedKernels
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState


def workload(state: WorkloadState, created: float = 100.0) -> Workload:
    """Return a workload of the kernel in question."""
    return Workload("k", "ann-k", "ann", state, created)


@pytest.fixture
async def ended() -> AsyncIterator[EndedKernels]:
    """A memory without timers after the test."""
    kernels = EndedKernels()
    yield kernels
    kernels.close()


async def test_late_news_of_an_ended_workload_is_covered(ended: EndedKernels) -> None:
    """News of a workload that came after it is not."""
    running = workload(WorkloadState.RUNNING)
    assert not ended.covers(running)
    ended.mark(running)
    assert ended.covers(running)
    assert ended.covers(workload(WorkloadState.DEAD))
    assert not ended.covers(workload(WorkloadState.RUNNING, created=105.0))
    ended.unmark("k")
    assert not ended.covers(running)


async def test_failed_launch_covers_its_dead_workload_only(ended: EndedKernels) -> None:
    """Another replica may have launched the kernel with success."""
    ended.mark_failed("k")
    assert ended.covers(workload(WorkloadState.DEAD))
    assert not ended.covers(workload(WorkloadState.RUNNING))


async def test_later_expiry_replaces_an_earlier_one(ended: EndedKernels) -> None:
    """A removed tombstone is forgotten sooner than one that is still there."""
    expired: list[str] = []
    ended.expire_later("k", lambda: expired.append("late"), 60.0)
    ended.expire_later("k", lambda: expired.append("soon"), 0.0)
    await asyncio.sleep(0.01)
    assert expired == ["soon"]


async def test_new_workload_ends_the_expiry(ended: EndedKernels) -> None:
    """The kernel was launched again, so nothing of it is forgotten."""
    expired: list[str] = []
    ended.expire_later("k", lambda: expired.append("k"), 0.0)
    ended.unmark("k")
    await asyncio.sleep(0.01)
    assert expired == []
