"""What the process does when it is told to stop."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Cancel the current task at each SIGTERM or SIGINT: a second one ends what the first left.

    SIGHUP is ignored, but by a handler: children would inherit `SIG_IGN`.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def stop() -> None:
        if task is None:
            raise AssertionError("a coroutine runs in a task")
        task.cancel()

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: lambda: None}
    for signum, handler in handlers.items():
        loop.add_signal_handler(signum, handler)
    try:
        yield
    finally:
        for signum in handlers:
            loop.remove_signal_handler(signum)
