"""The life of a kernel as a state machine: what follows the end of a process.

Pure: the caller passes the time. `KernelSupervisor` acts on the decisions.
"""

from __future__ import annotations

from enum import Enum
from typing import Optional, Tuple

from kernel_agent.process.exits import ExitReason

STABLE_SECONDS = 10.0
"""A process that ran for so long ends a series of automatic restarts, as in jupyter_client's
restarter."""

BY_GATEWAY = "by a request to the gateway"
BY_CLIENT = "by a shutdown_request of a client"


class EndedBy(Enum):
    """What requested the end of a kernel; the values are those of the state document."""

    GATEWAY = "gateway"
    CLIENT = "client"
    CULLER = "culler"
    AGENT = "agent"
    """By itself, since no client came."""


class Phase(Enum):
    """The phases of a kernel's life."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    TERMINATING = "terminating"
    DEAD = "dead"
    """The process has ended; only a requested restart starts another one."""


class Next(Enum):
    """The step that follows the end of a process."""

    START = "start"
    STAY_DEAD = "stay dead"
    LOSE = "lose"
    """The process died, and no other one can be started."""
    FAIL = "fail"
    """The process never became ready: the launch failed."""
    END = "end"
    """The end of the kernel was requested."""
    STOP = "stop"
    """The agent received a signal to end; `Lifecycle.reason` names it."""


class KernelDeadError(Exception):
    """The kernel is dead, or died during an operation.

    Attributes:
        reason: why it died, if known.
    """

    def __init__(self, reason: Optional[ExitReason]) -> None:
        super().__init__(reason.message if reason is not None else "the kernel is dead")
        self.reason = reason


class Lifecycle:
    """The state machine of one kernel."""

    def __init__(
        self, *, autorestart: bool, restart_limit: int, can_start_again: bool = True
    ) -> None:
        """Start in the phase STARTING.

        Args:
            autorestart: whether a process that died by itself is replaced.
            restart_limit: maximum number of consecutive automatic restarts.
            can_start_again: whether another process can be started at all.
        """
        self._autorestart = autorestart
        self.can_start_again = can_start_again
        self._restart_limit = restart_limit
        self._consecutive = 0
        self._ready_at: Optional[float] = None
        self._was_ever_ready = False
        self._is_restart_wanted = False
        self._is_counted = True
        self.phase = Phase.STARTING
        self.restarts = 0
        """Number of restarts so far, requested or automatic."""
        self.reason: Optional[ExitReason] = None
        self.requested_by = ""
        """Who requested the latest restart or end, as the end of a passive sentence."""
        self.ended_by: Optional[EndedBy] = None
        """What requested the end first; None: it is not requested."""

    def become_ready(self, now: float) -> None:
        """Record that the process answered kernel_info and its iopub is live."""
        self._was_ever_ready = True
        self._ready_at = now
        if self.phase in (Phase.STARTING, Phase.RESTARTING):
            self.phase = Phase.RUNNING

    @property
    def is_awaiting_process(self) -> bool:
        """Whether a process was started that is not ready yet."""
        is_starting = self.phase in (Phase.STARTING, Phase.RESTARTING)
        return is_starting and not self._is_restart_wanted

    def request_restart(self, by: str, *, is_counted: bool = True) -> bool:
        """Record a request to restart; return whether the process must be ended for it.

        False: there is no process, or one that is still starting and so serves as the new one.

        Args:
            by: who requested it, as the end of a passive sentence.
            is_counted: whether it is one of the `restarts`.
        """
        if self.phase not in (Phase.RUNNING, Phase.DEAD):
            return False
        self._is_counted = is_counted
        has_process = self.phase is Phase.RUNNING
        self._is_restart_wanted = True
        self._consecutive = 0
        self.reason = None
        self.requested_by = by
        self.phase = Phase.RESTARTING
        return has_process

    def request_end(self, by: str, ended_by: EndedBy) -> None:
        """Record a request to end the kernel, by whom; such an end has no reason."""
        self.ended_by = self.ended_by or ended_by
        if self.phase is not Phase.TERMINATING or self.reason is not None:
            self.requested_by = by
        self._is_restart_wanted = False
        self.reason = None
        self.phase = Phase.TERMINATING

    def request_stop(self, reason: ExitReason) -> None:
        """Record that the agent must end, though the end of the kernel was not requested.

        A kernel that is dead already keeps its reason. A requested end takes precedence, whichever
        comes first.
        """
        if self.phase is Phase.TERMINATING:
            return
        if self.phase is not Phase.DEAD:
            self.reason = reason
        self._is_restart_wanted = False
        self.phase = Phase.TERMINATING

    @property
    def end(self) -> Next:
        """The step that follows the end of a terminating kernel's process."""
        return Next.END if self.reason is None else Next.STOP

    def process_ended(self, now: float, reason: ExitReason) -> Next:
        """Record the end of a process, by itself or not; return the step that follows."""
        ready_at, self._ready_at = self._ready_at, None
        if self.phase is Phase.TERMINATING:
            return self.end
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
        if ready_at is not None and now - ready_at >= STABLE_SECONDS:
            self._consecutive = 0
        if not self._autorestart or self._consecutive >= self._restart_limit:
            self.phase = Phase.DEAD
            return Next.STAY_DEAD
        self._consecutive += 1
        return self._restart()

    def leave_death(self) -> Next:
        """Return the step that follows a request to a dead kernel."""
        if self.phase is Phase.TERMINATING:
            return self.end
        if self._is_restart_wanted:
            self._is_restart_wanted = False
            return self._restart()
        return Next.STAY_DEAD

    def _restart(self) -> Next:
        self.restarts += self._is_counted
        self._is_counted = True
        self.phase = Phase.RESTARTING
        return Next.START


def explain_failure(
    step: Next, reason: Optional[ExitReason], *, requested_by: str
) -> Tuple[str, str]:
    """Return `ename` and `evalue` for requests that the kernel cannot finish.

    Args:
        step: the step that follows the end of the process.
        reason: why it ended.
        requested_by: who requested the restart or end that follows, as the end of a passive
            sentence; "" if it was not requested.
    """
    if step is Next.START and requested_by:
        return "KernelRestarted", f"The kernel was restarted {requested_by}."
    if step is Next.END or reason is None:
        return "KernelShutDown", f"The kernel was shut down {requested_by}."
    sentence = _sentence(reason)
    if step is Next.START:
        return "KernelDied", f"{sentence} It is started again, without its variables."
    if step is Next.STOP:
        return "KernelShutDown", sentence
    return "KernelDied", f"{sentence} Restart it to go on."


def announce_end(lifecycle: Lifecycle, *, is_restart: bool) -> str:
    """Return the notice under a cell that is interrupted because its process is to end."""
    if lifecycle.reason is not None:
        return f"{_sentence(lifecycle.reason)}\n"
    what = "restarted" if is_restart else "shut down"
    return f"The kernel is being {what} {lifecycle.requested_by}.\n"


def _sentence(reason: ExitReason) -> str:
    return f"{reason.message[:1].upper()}{reason.message[1:]}."
