"""A process that is told to stop stops."""

import asyncio
import os
import signal

import pytest

from enterprise_gateway.app.signals import cancelled_by_signals

DEADLINE = 10.0


async def run_until_cancelled(started: asyncio.Event, cleanup: asyncio.Event) -> bool:
    """Run as the application does; whether the cleanup came to its end."""
    done = False
    try:
        with cancelled_by_signals():
            try:
                started.set()
                await asyncio.get_running_loop().create_future()
            finally:
                await cleanup.wait()
                done = True
    except asyncio.CancelledError:
        return done
    raise AssertionError("not cancelled")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_signal_cancels_and_cleanup_runs(signum: int) -> None:
    """What has to be finished is finished."""
    started, cleanup = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_until_cancelled(started, cleanup))
    await started.wait()
    os.kill(os.getpid(), signum)
    asyncio.get_running_loop().call_later(0.05, cleanup.set)
    assert await asyncio.wait_for(running, DEADLINE)


async def test_second_signal_ends_the_cleanup() -> None:
    """An operator need not wait for what is in progress."""
    started, cleanup = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_until_cancelled(started, cleanup))
    await started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    assert not running.done()
    os.kill(os.getpid(), signal.SIGTERM)
    assert not await asyncio.wait_for(running, DEADLINE)


async def test_hangup_cancels_nothing_and_handlers_are_put_back() -> None:
    """SIGHUP is ignored while the gateway runs; afterwards signals mean what they meant."""
    before = signal.getsignal(signal.SIGHUP)
    started, cleanup = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_until_cancelled(started, cleanup))
    await started.wait()
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.05)
    assert not running.done()
    cleanup.set()
    running.cancel()
    await asyncio.wait_for(running, DEADLINE)
    assert signal.getsignal(signal.SIGHUP) == before
