"""The state document of a kernel agent, section 3 of the wire contract.

An agent is not trusted: what it says is checked once, when it is decoded.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, TypeVar

import msgspec

from enterprise_gateway.errors import UNREADABLE_JSON
from enterprise_gateway.services.processproxies.steps import StartTimes

MAX_REASON_CHARS = 8192
MAX_MESSAGE_CHARS = 2048
MAX_DETAIL_CHARS = 100

Name = Annotated[str, msgspec.Meta(max_length=4096)]
Time = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
"""In one form, so that texts sort like times."""

MAX_OPEN_REQUESTS = 128

_Document = TypeVar("_Document")


class ExecutionState(StrEnum):
    """The activity of a kernel, named as in the wire contract and in REST models."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    RESTARTING = "restarting"
    TERMINATING = "terminating"
    DEAD = "dead"


class DocumentError(Exception):
    """An agent's document breaks the contract."""


class ExitReason(msgspec.Struct, frozen=True):
    """Why a kernel process ended. A long message is cut."""

    message: str
    exit_code: int | None = None
    signal: str | None = None
    out_of_memory: bool = False

    def __post_init__(self) -> None:
        """Cut the message."""
        msgspec.structs.force_setattr(self, "message", self.message[:MAX_REASON_CHARS])


class Annotations(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """The gateway's own document in an agent, with its revision for compare-and-set."""

    revision: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0
    document: msgspec.Raw = msgspec.Raw(b"{}")
    """JSON. The agent can write anything here; only sessions that authenticate are a gateway's."""


_NO_ANNOTATIONS = Annotations()


class OpenRequest(msgspec.Struct, frozen=True):
    """A client's request to the kernel that has no reply yet."""

    channel: Literal["shell", "control"]
    header: dict[str, object]


class Usage(msgspec.Struct, frozen=True):
    """What the workload has used since it was launched."""

    cpu_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0.0
    memory_peak_bytes: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0


class AgentState(msgspec.Struct, frozen=True):
    """The state document of a kernel agent."""

    kernel_id: str
    execution_state: ExecutionState
    last_activity: Time
    kernel_name: Name = ""
    connections: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    websockets: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    """How many WebSockets are open, also of clients that do not answer; None: an older agent."""
    streams: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """How many streams of executions over HTTP are open."""
    restarts: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0
    reason: ExitReason | None = None
    pooled: bool = False
    """Whether the kernel waits in a pool, for a gateway to take it."""
    claimed: bool = True
    """Whether a client knows the kernel. Agents from before there were claims do not say."""
    annotations: Annotations = Annotations()
    requests: Annotated[tuple[OpenRequest, ...], msgspec.Meta(max_length=MAX_OPEN_REQUESTS)] = ()
    """The oldest requests without a reply; a gateway answers them if the agent dies as well."""
    start: StartTimes | None = None
    """The latest start or restart; None before the first has ended, and from older agents."""
    notice: Name | None = None
    """A sentence for the user about how the kernel was started, or ""; None: an older agent."""
    kernel_info: dict[str, object] = {}
    """The content of the newest kernel_info reply, with which a gateway answers then."""
    ended_by: Annotated[str, msgspec.Meta(max_length=32)] = ""
    """What requested the end, once it is requested; "" before, and from older agents."""
    usage: Usage | None = None
    """None: it is not measured, or by an older agent."""

    def __post_init__(self) -> None:
        """Check that the time is one."""
        datetime.fromisoformat(self.last_activity)

    @property
    def can_begin_anew(self) -> bool:
        """Whether the agent knows `process` of `POST /v1/take`, which is as old as its notices."""
        return self.notice is not None

    @property
    def has_connections(self) -> bool:
        """Whether a client is connected, even a silent one; true for older agents, which say not.

        One that does not answer may do so again on its WebSocket.
        """
        return self.websockets != 0 or self.streams != 0

    def is_like(self, other: "AgentState") -> bool:
        """Return whether another document tells the same, apart from what the kernel has used."""
        one, two = (
            msgspec.structs.replace(each, usage=None, annotations=_NO_ANNOTATIONS)
            for each in (self, other)
        )
        return one == two and self.annotations.revision == other.annotations.revision

    @property
    def is_dead(self) -> bool:
        """Whether there is no kernel process, and will not be one by itself."""
        return self.execution_state is ExecutionState.DEAD

    @property
    def has_ended(self) -> bool:
        """Whether the kernel has ended on request: there is no more to come."""
        return self.is_dead and self.reason is None

    @property
    def is_starting(self) -> bool:
        """Whether the kernel has never answered; no restart leads back to this."""
        return self.execution_state is ExecutionState.STARTING

    @property
    def is_stopping(self) -> bool:
        """Whether the agent was told to stop from outside, as when its node is drained."""
        return self.execution_state is ExecutionState.TERMINATING and self.reason is not None

    @property
    def is_terminating(self) -> bool:
        """Whether the kernel is ending on request; an end with a reason was not requested."""
        return self.execution_state is ExecutionState.TERMINATING and self.reason is None


class Taken(msgspec.Struct, frozen=True):
    """Whether a kernel was taken from a pool, and what changed with that."""

    is_taken: bool
    env: Annotated[dict[str, str | None], msgspec.Meta(max_length=4096)]
    """None: the variable is unset."""


class _Failure(msgspec.Struct):
    message: str = ""


def parse_state(raw: bytes, kernel_id: str, now: float) -> AgentState:
    """Return a state document.

    Args:
        raw: its JSON.
        kernel_id: the kernel that the agent is asked about.
        now: seconds since the epoch. A later `last_activity` becomes this.

    Raises:
        DocumentError: it is no state document, or that of another kernel.
    """
    state = parse_document(raw, AgentState)
    if state.kernel_id != kernel_id:
        raise DocumentError("it speaks of another kernel")
    latest = format_time(now)
    if state.last_activity > latest:
        return msgspec.structs.replace(state, last_activity=latest)
    return state


def parse_document(raw: bytes, kind: type[_Document]) -> _Document:
    """Return a JSON text of an agent's as a `kind`.

    Raises:
        DocumentError: it is not JSON, or not of that shape.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE_JSON as exc:
        raise DocumentError(
            f"its answer is not understood ({str(exc)[:MAX_DETAIL_CHARS]!a})"
        ) from exc


def failure_message(raw: bytes) -> str:
    """Return the message of an agent's error answer, cut if it is long, "" if there is none."""
    try:
        return parse_document(raw, _Failure).message[:MAX_MESSAGE_CHARS]
    except DocumentError:
        return ""


def format_time(seconds: float) -> str:
    """Return seconds since the epoch in the one form that every client can parse."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
