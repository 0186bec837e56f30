"""The protocols of a kernel process and of its spawner.

`command.py` implements them for an ordinary command, `eg.bootstrap` for the launch script of
Enterprise Gateway's images, `eg.attachment` for a kernel in another container; no other module
knows the difference. For type checkers only: every import before the spawn delays the kernel.
"""

from __future__ import annotations

import asyncio
from typing import Callable, Mapping, Optional, Protocol

from kernel_agent.launch.connection_info import ConnectionInfo
from kernel_agent.process.child import OutputTail
from kernel_agent.process.exits import ExitReason
from kernel_agent.system.cgroup import OomCounter
from kernel_agent.system.reaper import Reaper


class KernelProcess(Protocol):
    """One kernel process, from its start to its end.

    Attributes:
        imported_ahead: whether it had imported modules before the kernel began in it. If it fails,
            a process that has not is started in its place.
    """

    imported_ahead: bool

    def watch(self, reaper: Reaper) -> "asyncio.Future[int]":
        """Return a future of the exit code, negative for a signal, as in `Popen.returncode`.

        Called once, before the event loop runs again after the spawn or respawn.
        """
        ...

    async def connect(self) -> ConnectionInfo:
        """Return the connection info, as soon as it is known.

        The caller cancels it when the process ends first, or the launch takes too long.

        Raises:
            SpawnError: it will never be known.
        """
        ...

    async def interrupt(self, signum: int) -> None:
        """Interrupt the kernel by a signal; return when it is delivered."""
        ...

    async def signal(self, signum: int) -> None:
        """Signal the kernel and its children; return when delivered, also if they are gone."""
        ...

    def release_parent(self) -> None:
        """End the parent of the kernel that would outlive it, and continue a stopped process.

        Called after a shutdown_request, and when the kernel closed its connections; maybe more than
        once.
        """
        ...

    def kill(self) -> None:
        """Kill the process and its descendants, as far as possible from here."""
        ...

    def collect_exit(self, code: int, timeout: float) -> None:
        """End the descendants of the ended process, and forward its last output. Blocks.

        Args:
            code: its exit code.
            timeout: seconds to wait for the output; surviving children may keep it open.
        """
        ...

    def explain_exit(self, code: int, *, out_of_memory: bool) -> ExitReason:
        """Return why the process ended."""
        ...

    def stderr(self) -> str:
        """Return the last lines of stderr."""
        ...


class KernelSpawner(Protocol):
    """Starts the processes of one kernel, one after the other.

    Attributes:
        log: the last output of all of them.
    """

    log: OutputTail

    def spawn(self) -> KernelProcess:
        """Start the first process.

        Raises:
            SpawnError: it cannot be started.
        """
        ...

    @property
    def has_spare(self) -> bool:
        """Whether the next respawn takes a process that is ready."""
        ...

    def prepare(
        self,
        reaper: Reaper,
        oom: OomCounter,
        is_quiet: Callable[[float], bool],
        changed: Callable[[], None],
    ) -> None:
        """Get ready for a restart, once the kernel is ready and has been quiet for a moment.

        Args:
            reaper: reaps what is started for it.
            oom: is told if that was killed for want of memory.
            is_quiet: returns whether the kernel had nothing to do for some seconds.
            changed: called when `has_spare` has changed.
        """
        ...

    async def respawn(self) -> KernelProcess:
        """Start a process in place of one that has ended.

        Raises:
            SpawnError: it cannot be started.
        """
        ...

    def change_environment(
        self, changes: Mapping[str, Optional[str]], *, suits_spare: bool
    ) -> None:
        """Set variables for later processes, or unset those that are None.

        Args:
            changes: the variables.
            suits_spare: whether none is read by what a spare has imported already.
        """
        ...

    def release(self) -> None:
        """Release the ports and files of the latest process, and what was prepared."""
        ...
