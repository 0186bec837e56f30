"""Whether the kernel is busy or active, derived from its iopub messages. Pure.

The rules are jupyter_server's (`MappingKernelManager.start_watching_activity`): messages about a
request that is no activity of a user, such as kernel_info, change neither.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Dict, List, NamedTuple, Optional

from kernel_agent.wire.message import EMPTY, Message, decode_object

UNTRACKED_TYPES = frozenset(
    {
        "comm_info_request",
        "comm_info_reply",
        "kernel_info_request",
        "kernel_info_reply",
        "shutdown_request",
        "shutdown_reply",
        "interrupt_request",
        "interrupt_reply",
        "debug_request",
        "debug_reply",
        "stream",
        "display_data",
        "update_display_data",
        "execute_input",
        "execute_result",
        "error",
        "status",
        "clear_output",
        "debug_event",
        "input_request",
        "input_reply",
        # Not in jupyter_server's list; they run on control, in parallel with the user's code.
        "usage_request",
        "create_subshell_request",
        "delete_subshell_request",
        "list_subshell_request",
    }
)


class ExecutionState(Enum):
    """The `execution_state` of the kernel model."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    RESTARTING = "restarting"
    TERMINATING = "terminating"
    DEAD = "dead"


class Running(NamedTuple):
    """A user's request that the kernel is running.

    Attributes:
        msg_id: its id.
        header: its header, as the kernel repeats it.
    """

    msg_id: object
    header: bytes


class Activity:
    """Tracks the running requests of one kernel process.

    One request runs at a time in each subshell, so the latest `busy` of a subshell is the only one
    that its `idle` ends.
    """

    def __init__(self) -> None:
        self._running: Dict[Any, Running] = {}
        self._parent_bytes: Optional[bytes] = None
        self._parent: Dict[str, Any] = {}
        self._is_tracked = False

    @property
    def interruptible(self) -> Optional[Running]:
        """The request that an interrupt stops: that of the main shell."""
        return self._running.get(None)

    @property
    def running(self) -> List[Running]:
        """All requests of users that are running, that of the main shell first."""
        return sorted(self._running.values(), key=lambda one: one is not self.interruptible)

    @property
    def is_busy(self) -> bool:
        """Whether a request of a user is running."""
        return bool(self._running)

    def update(self, message: Message) -> bool:
        """Update from an iopub message; return whether it counts as activity."""
        parent = message.parts[1]
        if parent != self._parent_bytes:
            self._parent_bytes = parent
            self._parent = decode_object(parent) or {}
            self._is_tracked = (
                bool(self._parent) and self._parent.get("msg_type") not in UNTRACKED_TYPES
            )
        if self._is_tracked and message.is_status:
            self._update_status(message.content().get("execution_state"))
        return self._is_tracked or self.is_busy

    def _update_status(self, state: object) -> None:
        subshell = self._parent.get("subshell_id")
        request = self._parent.get("msg_id")
        if not isinstance(subshell, (str, type(None))):
            return
        running = self._running.get(subshell)
        if state == "busy":
            self._running[subshell] = Running(request, self._parent_bytes or EMPTY)
        elif state == "idle" and running is not None and running.msg_id == request:
            del self._running[subshell]
