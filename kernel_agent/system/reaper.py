"""Reaps every child: the kernel, and its descendants when they are orphaned."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Dict


class Reaper:
    """Owns SIGCHLD; no other code in the process may wait for children."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._exits: Dict[int, "asyncio.Future[int]"] = {}
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def watch(self, pid: int) -> "asyncio.Future[int]":
        """Return a future of a child's exit code, negative for a signal.

        The caller must call it before the event loop runs again after the spawn.
        """
        future: "asyncio.Future[int]" = self._loop.create_future()
        self._exits[pid] = future
        self.reap()
        return future

    def reap(self) -> None:
        """Reap all children that have ended."""
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
        """Remove the handler of SIGCHLD."""
        self._loop.remove_signal_handler(signal.SIGCHLD)
