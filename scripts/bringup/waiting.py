"""Wait for what has no event."""

import time
from collections.abc import Callable

from bringup.console import SetupError

POLL_INTERVAL = 0.05


def wait_until(probe: Callable[[], object], timeout: float, what: str) -> None:
    """Call `probe` until it returns something true.

    Raises:
        SetupError: it did not in `timeout` seconds; names `what`.
    """
    deadline = time.monotonic() + timeout
    while not probe():
        if time.monotonic() > deadline:
            raise SetupError(f"{what}: not within {timeout:.0f} s")
        time.sleep(POLL_INTERVAL)
