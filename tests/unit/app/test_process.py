"""The process: signals end it, and it may open enough files."""

import asyncio
import os
import resource
import signal
import subprocess
import sys

import pytest

from enterprise_gateway.app.process import cancelled_by_signals

DEADLINE = 60.0
PROGRAM = """
import resource
from enterprise_gateway.app.process import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))
raise_descriptor_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


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
    """The task can finish its work."""
    started, cleanup = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_until_cancelled(started, cleanup))
    await started.wait()
    os.kill(os.getpid(), signum)
    asyncio.get_running_loop().call_later(0.05, cleanup.set)
    assert await asyncio.wait_for(running, DEADLINE)


async def test_second_signal_ends_the_cleanup() -> None:
    """An operator need not wait for work in progress."""
    started, cleanup = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_until_cancelled(started, cleanup))
    await started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    assert not running.done()
    os.kill(os.getpid(), signal.SIGTERM)
    assert not await asyncio.wait_for(running, DEADLINE)


async def test_hangup_cancels_nothing_and_handlers_are_put_back() -> None:
    """SIGHUP is ignored while the gateway runs; afterwards signals have their former handlers."""
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


def test_soft_limit_is_raised_to_the_hard_one() -> None:
    """A gateway with the usual limits serves more than a few hundred WebSockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= 512
    assert hard == resource.RLIM_INFINITY or hard >= 512
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "(512, 512)"
