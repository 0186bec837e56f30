"""The state document of a kernel agent, section 3 of the wire contract."""

from typing import Any

import msgspec


class ExitReason(msgspec.Struct, frozen=True):
    """Why a kernel process ended."""

    message: str
    exit_code: int | None = None
    signal: str | None = None
    out_of_memory: bool = False
    stderr: str = ""


class Annotations(msgspec.Struct, frozen=True):
    """The gateway's own document in an agent, with the revision that compare-and-set is about."""

    revision: int = 0
    document: dict[str, Any] = {}


class AgentState(msgspec.Struct, frozen=True):
    """What an agent says of its kernel."""

    kernel_id: str
    execution_state: str
    last_activity: str
    kernel_name: str = ""
    username: str = ""
    connections: int = 0
    reason: ExitReason | None = None
    annotations: Annotations = Annotations()

    @property
    def is_dead(self) -> bool:
        """Whether there is no kernel process, and will not be one by itself."""
        return self.execution_state == "dead"

    @property
    def has_ended(self) -> bool:
        """Whether the kernel has ended because somebody wanted it to: there is no more to come."""
        return self.is_dead and self.reason is None

    @property
    def is_starting(self) -> bool:
        """Whether the kernel has never answered; no restart leads back to this."""
        return self.execution_state == "starting"

    @property
    def is_terminating(self) -> bool:
        """Whether somebody wants the kernel to end; an end with a reason is nobody's wish."""
        return self.execution_state == "terminating" and self.reason is None
