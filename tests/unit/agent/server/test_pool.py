"""The time of a kernel in its pool."""

import asyncio
from types import SimpleNamespace
from typing import Any

from kernel_agent.kernel.lifecycle import Phase
from kernel_agent.server.pool import Pool, Takeover


async def test_kernel_that_is_taken_at_the_last_moment_stays() -> None:
    """It is a user's, though its time in the pool has ended in the same turn of the event loop."""
    loop = asyncio.get_running_loop()
    supervisor: Any = SimpleNamespace(  # that of a Python kernel that runs
        lifecycle=SimpleNamespace(phase=Phase.RUNNING),
        kernel_info={"language_info": {"name": "python"}},
        set_up=lambda *_: None,
    )
    pool = Pool(supervisor, lambda: None, is_pooled=True)
    pool.open()
    seconds = 0.01
    waiting = asyncio.create_task(pool.wait(seconds))
    await asyncio.sleep(0)
    over = loop.time() + 2 * seconds
    while loop.time() < over:
        pass  # the loop is busy, and finds both when it goes on
    await pool.take(Takeover({"username": "ann"}))
    assert await waiting
    assert pool.taken is not None
