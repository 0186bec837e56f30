"""What the process does when it is told to stop."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SECONDS = 8.0
"""From the signal to stop until what hangs is given up; `docker stop` waits for ten."""


@contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Cancel the current task on SIGTERM or SIGINT, and once more when stopping takes too long.

    SIGHUP is ignored, but by a handler: children would inherit `SIG_IGN`.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def stop() -> None:
        if task is None:
            raise AssertionError("a coroutine runs in a task")
        task.cancel()
        loop.call_later(STOP_SECONDS, task.cancel)

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: lambda: None}
    for signum, handler in handlers.items():
        loop.add_signal_handler(signum, handler)
    try:
        yield
    finally:
        for signum in handlers:
            loop.remove_signal_handler(signum)
