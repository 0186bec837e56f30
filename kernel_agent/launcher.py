"""What the agent asks of whatever starts a kernel: the seam between its life and its origin.

`process.py` runs an ordinary command. A kernel that comes to be in another way brings a launcher
and a process of its own; nothing else in the agent knows the difference. For type checkers only:
nothing imports this at run time, since everything imported before the kernel is spawned delays it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from kernel_agent.connection_file import ConnectionInfo
from kernel_agent.lifecycle import ExitReason
from kernel_agent.process import OutputTail
from kernel_agent.reaper import Reaper


class KernelProcess(Protocol):
    """One kernel process, from its start to its end."""

    def watch(self, reaper: Reaper) -> "asyncio.Future[int]":
        """Return a future of the exit code, negative for a signal, as in `Popen.returncode`.

        Called once, before the event loop runs again after the process was spawned.
        """
        ...

    async def connect(self) -> ConnectionInfo:
        """Return how to reach the kernel, as soon as that is known.

        It is cancelled when the process ends first, or the launch takes too long.

        Raises:
            SpawnError: it will never be known.
        """
        ...

    async def interrupt(self, signum: int) -> None:
        """Interrupt what the kernel does, by a signal; return when it is delivered."""
        ...

    async def signal(self, signum: int) -> None:
        """Signal the kernel and its children; return when that is delivered. Gone is no error."""
        ...

    def let_go(self) -> None:
        """End what keeps the process alive beside the kernel.

        Called when the kernel was asked to shut down, and when it closed its connections; maybe
        more than once.
        """
        ...

    def kill(self) -> None:
        """End everything at once, as far as that is possible from here."""
        ...

    def settle(self, code: int, timeout: float) -> None:
        """Clear away what the process, which has ended, left; pass on its last output. Blocks.

        Args:
            code: its exit code.
            timeout: seconds for the output; children that live on may keep it open.
        """
        ...

    def explain_exit(self, code: int, *, out_of_memory: bool) -> ExitReason:
        """Say why the process ended."""
        ...

    def stderr(self) -> str:
        """Return the last lines of stderr."""
        ...


class Launcher(Protocol):
    """Starts processes of one kernel, one after the other.

    Attributes:
        log: the end of what all of them printed.
    """

    log: OutputTail

    def spawn(self) -> KernelProcess:
        """Start a process, after the one before it has ended.

        Raises:
            SpawnError: it cannot be started.
        """
        ...

    def release(self) -> None:
        """Give back what the latest process was given."""
        ...
