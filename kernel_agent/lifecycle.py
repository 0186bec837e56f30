"""The life of a kernel as a state machine: what to do when one of its processes ends.

No I/O and no clock: whoever calls tells the time. `KernelSupervisor` acts on the answers.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Optional

STABLE_AFTER = 10.0
"""Seconds; a process that ran for so long ends a series of automatic restarts, as it does in
jupyter_client's restarter."""


class Phase(Enum):
    """Where the kernel is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    TERMINATING = "terminating"
    DEAD = "dead"
    """The process is gone for good, unless somebody asks for a restart."""


class Next(Enum):
    """What follows the end of a process."""

    START = "start"
    STAY_DEAD = "stay dead"
    LOSE = "lose"
    """It died, and there can be no other process."""
    FAIL = "fail"
    """It never became ready: the launch failed."""
    END = "end"
    """Somebody asked for it."""
    STOP = "stop"
    """The agent was told to stop from outside; `Lifecycle.reason` says so."""


class ExitReason(NamedTuple):
    """Why a kernel process ended; the wire contract's `reason`."""

    message: str
    exit_code: Optional[int] = None
    signal: Optional[str] = None
    out_of_memory: bool = False
    stderr: str = ""


class Lifecycle:
    """The state machine of one kernel."""

    def __init__(
        self, *, autorestart: bool, restart_limit: int, can_start_again: bool = True
    ) -> None:
        """Begin the life of a kernel.

        Args:
            autorestart: whether a process that died by itself is replaced.
            restart_limit: how often in a row.
            can_start_again: whether another process can be had at all.
        """
        self._autorestart = autorestart
        self.can_start_again = can_start_again
        self._restart_limit = restart_limit
        self._consecutive = 0
        self._ready_at: Optional[float] = None
        self._was_ever_ready = False
        self._is_restart_wanted = False
        self.phase = Phase.STARTING
        self.restarts = 0
        """Restarts so far, asked for or not."""
        self.reason: Optional[ExitReason] = None

    def become_ready(self, now: float) -> None:
        """The process answered kernel_info and its iopub is live."""
        self._was_ever_ready = True
        self._ready_at = now
        if self.phase in (Phase.STARTING, Phase.RESTARTING):
            self.phase = Phase.RUNNING

    def request_restart(self) -> bool:
        """Somebody asked for a restart; return whether the process must be ended for it.

        False: there is no process, or one that is starting, which is as good as a restart.
        """
        if self.phase not in (Phase.RUNNING, Phase.DEAD):
            return False
        has_process = self.phase is Phase.RUNNING
        self._is_restart_wanted = True
        self._consecutive = 0
        self.reason = None
        self.phase = Phase.RESTARTING
        return has_process

    def request_end(self) -> None:
        """Somebody asked for the end of the kernel, which so needs no reason."""
        self._is_restart_wanted = False
        self.reason = None
        self.phase = Phase.TERMINATING

    def request_stop(self, reason: ExitReason) -> None:
        """The agent must end, but nobody asked for the end of the kernel.

        Of a kernel that is dead already the reason remains. An end asked for counts more, whichever
        comes first.
        """
        if self.phase is Phase.TERMINATING:
            return
        if self.phase is not Phase.DEAD:
            self.reason = reason
        self._is_restart_wanted = False
        self.phase = Phase.TERMINATING

    def process_ended(self, now: float, reason: ExitReason) -> Next:
        """A process ended, by itself or not; decide what follows."""
        ready_at, self._ready_at = self._ready_at, None
        if self.phase is Phase.TERMINATING:
            return self._end()
        if self._is_restart_wanted:
            self._is_restart_wanted = False
            return self._restart()
        self.reason = reason
        if not self._was_ever_ready:
            self.phase = Phase.DEAD
            return Next.FAIL
        if not self.can_start_again:
            self.phase = Phase.DEAD
            return Next.LOSE
        if ready_at is not None and now - ready_at >= STABLE_AFTER:
            self._consecutive = 0
        if not self._autorestart or self._consecutive >= self._restart_limit:
            self.phase = Phase.DEAD
            return Next.STAY_DEAD
        self._consecutive += 1
        return self._restart()

    def leave_death(self) -> Next:
        """Somebody asked for something while the kernel was dead; decide what follows."""
        if self.phase is Phase.TERMINATING:
            return self._end()
        if self._is_restart_wanted:
            self._is_restart_wanted = False
            return self._restart()
        return Next.STAY_DEAD

    def _end(self) -> Next:
        return Next.END if self.reason is None else Next.STOP

    def _restart(self) -> Next:
        self.restarts += 1
        self.phase = Phase.RESTARTING
        return Next.START
