"""Wait for a condition with a deadline: the only place in these tests that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_INTERVAL = 0.05

T = TypeVar("T")


def wait_until(probe: Callable[[], T], *, deadline: float = 30.0, what: str = "") -> T:
    """Call `probe` until it returns something true, and return that.

    Raises:
        TimeoutError: after `deadline` seconds; the text holds `what` and the last value.
    """
    end = time.monotonic() + deadline
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what or probe} not within {deadline} s; last: {value!r}")
        time.sleep(POLL_INTERVAL)
