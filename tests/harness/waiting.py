"""Wait for a condition with a deadline: the only place in these tests that polls."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, TypeVar

DEADLINE_SECONDS = 120.0
POLL_SECONDS = 0.02

T = TypeVar("T")


def wait_until(probe: Callable[[], T], *, deadline: float = DEADLINE_SECONDS, what: str = "") -> T:
    """Call `probe` until it returns something true, and return that.

    Raises:
        TimeoutError: after `deadline` seconds; the text holds `what` and the last value.
    """
    end = time.monotonic() + deadline
    while True:
        value = probe()
        if value:
            return value
        _check_deadline(end, f"{what or probe} not within {deadline} s; last: {value!r}")
        time.sleep(POLL_SECONDS)


async def eventually(
    probe: Callable[[], Any], *, deadline: float = DEADLINE_SECONDS, what: str = ""
) -> Any:
    """Do the same without blocking the loop; awaits what an asynchronous probe returns.

    Raises:
        TimeoutError: see `wait_until`.
    """
    end = time.monotonic() + deadline
    async with asyncio.timeout(deadline):
        while True:
            value = probe()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            _check_deadline(end, f"{what or probe} not within {deadline} s; last: {value!r}")
            await asyncio.sleep(POLL_SECONDS)


async def wait_in_thread(
    probe: Callable[[], T], deadline: float = DEADLINE_SECONDS, *, what: str = ""
) -> T:
    """Call a probe that blocks in a thread until it returns something true, and return that.

    Raises:
        TimeoutError: see `wait_until`.
    """
    return await asyncio.to_thread(wait_until, probe, deadline=deadline, what=what)


def _check_deadline(end: float, text: str) -> None:
    if time.monotonic() > end:
        raise TimeoutError(text)
