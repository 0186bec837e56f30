"""Background tasks."""

import asyncio
import logging

import pytest

from enterprise_gateway.services.tasks import BackgroundTasks


class Work:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.is_cancelled = False
        self.end = asyncio.Event()

    async def run(self) -> str:
        """Wait for the end."""
        self.begun += 1
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        return "done"


async def test_work_goes_on_when_its_caller_is_cancelled() -> None:
    """A client that leaves does not end what was begun for it."""
    tasks, work = BackgroundTasks(), Work()
    task = tasks.begin(work.run())
    caller = asyncio.create_task(tasks.wait(task))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    work.end.set()
    assert await task == "done"


async def test_failure_is_logged_if_its_caller_has_left(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise the caller gets it, and nothing is logged."""
    tasks, end = BackgroundTasks(), asyncio.Event()

    async def fail() -> None:
        await end.wait()
        raise ValueError("no more kernels")

    caller = asyncio.create_task(tasks.run(fail()))
    await asyncio.sleep(0)
    caller.cancel()
    with caplog.at_level(logging.WARNING):
        end.set()
        await asyncio.gather(caller, return_exceptions=True)
        await tasks.finish()
    assert "no more kernels" in caplog.text
    caplog.clear()
    with pytest.raises(ValueError, match="no more kernels"):
        await tasks.run(fail())
    assert not caplog.text


async def test_work_of_one_key_runs_once_at_a_time() -> None:
    """Requests for the same thing wait for the same task; a later one begins anew."""
    tasks, work = BackgroundTasks(), Work()
    first = tasks.begin_once("k", work.run)
    assert tasks.begin_once("k", work.run) is first
    assert tasks.is_running("k")
    assert not tasks.is_running("other")
    work.end.set()
    assert await first == "done"
    assert not tasks.is_running("k")
    assert await tasks.begin_once("k", work.run) == "done"
    assert work.begun == 2


async def test_closing_waits_for_work_then_cancels_it() -> None:
    """Work that ends in time is not cancelled."""
    tasks, quick, slow = BackgroundTasks(), Work(), Work()
    quick.end.set()
    tasks.begin(quick.run())
    tasks.begin(slow.run())
    await tasks.finish(0.05)
    assert not quick.is_cancelled
    assert slow.is_cancelled


async def test_cancelling_ends_all_work() -> None:
    """It returns once the tasks have ended."""
    tasks, work = BackgroundTasks(), Work()
    task = tasks.begin(work.run())
    await asyncio.sleep(0)
    await tasks.cancel()
    assert task.cancelled()
    assert work.is_cancelled
