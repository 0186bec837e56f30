"""Reaps every child, the kernel and, as PID 1 of a container, whatever was orphaned in it."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Dict


class Reaper:
    """Owns SIGCHLD; nobody else in the process may wait for children."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._exits: Dict[int, "asyncio.Future[int]"] = {}
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def watch(self, pid: int) -> "asyncio.Future[int]":
        """Return a future of a child's exit code, negative for a signal.

        It must be called before the event loop runs again after the child was spawned.
        """
        future: "asyncio.Future[int]" = self._loop.create_future()
        self._exits[pid] = future
        self.reap()
        return future

    def reap(self) -> None:
        """Collect all children that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            future = self._exits.pop(pid, None)
            if future is not None and not future.done():
                future.set_result(os.waitstatus_to_exitcode(status))

    def close(self) -> None:
        """Give SIGCHLD back."""
        self._loop.remove_signal_handler(signal.SIGCHLD)
