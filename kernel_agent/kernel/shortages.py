"""Tells clients what a running kernel could not have: memory, shared memory, or processes.

The kernel's own end for want of memory is told as the reason of its end, and not from here.
"""

from __future__ import annotations

import asyncio
from typing import Callable, Optional

from kernel_agent.process.exits import SharedMemory, in_binary_unit, read_shared_memory
from kernel_agent.system.cgroup import OomCounter, PidsCounter, memory_limit

LOOK_SECONDS = 1.0
"""The pause between two looks while the kernel is busy; the counters of a container cannot be
waited for."""
QUIET_SECONDS = 10.0
"""The shortest time between two notices of one kind."""
DYING_SECONDS = 30.0
"""How long after it was killed a process may still be there: the more memory it had, the longer
Linux takes to free that."""


class ShortageWatch:
    """Looks at the counters of the control group while the kernel runs something."""

    def __init__(
        self,
        oom: OomCounter,
        pids: PidsCounter,
        is_busy: Callable[[], bool],
        is_alive: Callable[[], bool],
        tell: Callable[[str], None],
        shared_memory: Callable[[], Optional[SharedMemory]] = read_shared_memory,
    ) -> None:
        """Prepare.

        Args:
            oom: counts what was ended for want of memory.
            pids: counts what could not be started.
            is_busy: returns whether the kernel runs a request.
            is_alive: returns whether the kernel's own process runs.
            tell: shows clients a text.
            shared_memory: returns the size and the free space of /dev/shm.
        """
        self._oom = oom
        self._pids = pids
        self._is_busy = is_busy
        self._is_alive = is_alive
        self._tell = tell
        self._shared_memory = shared_memory
        self._loop = asyncio.get_running_loop()
        self._timer: Optional[asyncio.TimerHandle] = None
        self._is_suspected = False
        """Whether the last look saw a kill; it may be that of the kernel, whose end comes next."""
        self._next_kill_notice = 0.0
        self._next_notice = 0.0
        self._has_told_full = False
        """Whether /dev/shm was full at the last look, which is told once."""
        self._told_until = 0.0
        """Until when an end by SIGKILL may be a kill that was told as another process's end."""

    def begin(self) -> None:
        """Look from now on, for as long as the kernel is busy."""
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def has_ended_kernel(self) -> bool:
        """Say whether memory ran out, once the kernel's process has ended; each kill counts once.

        It may have been told as the end of another process: a kernel with much memory takes a while
        to end.
        """
        is_told = self._loop.time() < self._told_until
        self._told_until = 0.0
        return self._oom.has_increased() or is_told

    def acquit_kernel(self) -> None:
        """Note that the kernel has answered: it is not what was killed."""
        self._told_until = 0.0

    def _look(self) -> None:
        self._timer = None
        if not self._is_alive():
            self._is_suspected = False
            return
        is_killed = self._oom.is_ahead
        if is_killed and self._is_suspected:
            self._oom.has_increased()
            self._note_kill()
            is_killed = False
        self._is_suspected = is_killed
        if self._pids.has_increased() and self._loop.time() >= self._next_notice:
            self._next_notice = self._loop.time() + QUIET_SECONDS
            self._tell(explain_refused_process(self._pids.limit))
        self._look_at_shared_memory()
        if self._is_suspected or self._is_busy():
            self.begin()

    def _look_at_shared_memory(self) -> None:
        memory = self._shared_memory()
        is_full = memory is not None and memory.is_full
        if memory is not None and is_full and not self._has_told_full:
            self._tell(explain_full_shared_memory(memory))
        self._has_told_full = is_full

    def _note_kill(self) -> None:
        now = self._loop.time()
        self._told_until = now + DYING_SECONDS
        if now >= self._next_kill_notice:
            self._next_kill_notice = now + QUIET_SECONDS
            self._tell(explain_killed_process(memory_limit()))


def explain_killed_process(limit: Optional[int]) -> str:
    """Return the notice that a process of a kernel was killed, but not the kernel."""
    cause = f"the memory limit is {in_binary_unit(limit)}" if limit else "the machine had none left"
    return f"A process that the kernel had started was killed, as memory ran out: {cause}.\n"


def explain_full_shared_memory(memory: SharedMemory) -> str:
    """Return the notice that processes of a kernel may be killed as they share memory."""
    return (
        f"Shared memory, {in_binary_unit(memory.size)} in /dev/shm, is full: a process that writes "
        "there, such as a worker of a data loader, is killed by SIGBUS. KERNEL_SHM_SIZE gives "
        "more.\n"
    )


def explain_refused_process(limit: Optional[int]) -> str:
    """Return the notice that a kernel could not start a process or a thread."""
    most = f"more than {limit}" if limit else "more"
    return f"The kernel could not start a process or thread: it may not have {most} of them.\n"
