"""What the gateway knows of one kernel, and what REST says of it."""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from enterprise_gateway.services.kernels.agent import Agent
from enterprise_gateway.services.kernels.state import AgentState, Annotations
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    LaunchRequest,
    Workload,
)


class KernelModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """A kernel as REST shows it, the model of jupyter_server's `/api/kernels`."""

    id: str
    name: str
    last_activity: str
    """ISO 8601, always with six digits of a second and a Z: clients parse it so."""
    execution_state: str
    connections: int
    reason: str = ""
    """Why it is dead; left out if there is nothing to say."""


@dataclass(slots=True, eq=False)
class Record:
    """A kernel with a workload, or the memory of one that died."""

    proxy: BaseProcessProxyABC
    workload: Workload
    launch: LaunchRequest | None = None
    """How to launch it again; None if another gateway process launched it."""
    client_env: Mapping[str, str] | None = field(default=None, repr=False)
    """What its client may have sent, if another gateway process launched it.

    None: not known yet; empty: it cannot be known.
    """
    launched_from: str = ""
    """The kernelspec's name, if another gateway process launched it."""
    agent: Agent | None = None
    has_run: bool = False
    """Whether its agent's address was ever known."""
    state: AgentState | None = None
    """The newest state document."""
    is_public: bool = False
    """Whether clients may have been told of it: there was a kernel of this id that was ready."""
    pending_until: float = 0.0
    """Until when, in seconds since the epoch, another gateway process may still be launching it."""
    was_terminating: bool = False
    """Whether the agent has said that somebody wants the kernel to end."""
    death: str | None = None
    """Why the workload died. None: it lives."""
    found: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """When this gateway process first saw it, by the event loop's clock."""
    is_known: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once there is a state, or a death."""
    is_silent: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless the state stream is open, so that `state` is at most a moment old."""
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it has died, or was forgotten."""
    stream: asyncio.Task[None] | None = None
    ending: asyncio.Task[None] | None = None
    """Set while somebody ends the kernel."""
    restarting: asyncio.Task[None] | None = None
    """Set while somebody restarts it."""

    def __post_init__(self) -> None:
        """Begin without a stream."""
        self.is_silent.set()

    @property
    def is_pending(self) -> bool:
        """Whether another gateway process is launching it, and nobody has been told of it yet."""
        return not self.is_public and time.time() < self.pending_until

    @property
    def has_ended(self) -> bool:
        """Whether it has ended because somebody wanted it to, though it is not forgotten yet."""
        return self.death is None and self.state is not None and self.state.has_ended

    @property
    def is_starting(self) -> bool:
        """Whether its agent has not said yet that it is ready."""
        return self.state is None or self.state.is_starting

    @property
    def kernel_id(self) -> str:
        """The kernel's id."""
        return self.workload.kernel_id

    @property
    def kernel_name(self) -> str:
        """The kernelspec's name, "" while nothing is known."""
        if self.launch is not None:
            return self.launch.kernel_name
        return self.state.kernel_name if self.state is not None else self.launched_from

    @property
    def username(self) -> str:
        """Whose kernel it is, "" while nothing is known."""
        if self.launch is not None:
            return self.launch.username
        return self.state.username if self.state is not None else ""

    def learn_annotations(self, annotations: Annotations) -> None:
        """Take over annotations that the agent answered."""
        if self.state is not None and annotations.revision > self.state.annotations.revision:
            self.state = msgspec.structs.replace(self.state, annotations=annotations)

    def inherit(self, dead: "Record") -> None:
        """Take the place of a record whose workload died, and of which clients may know."""
        self.is_public = self.is_public or dead.is_public or dead.death is not None
        self.launch = self.launch or dead.launch
        self.client_env = dead.client_env
        self.launched_from = dead.launched_from
        if dead.state is not None:
            self.state = msgspec.structs.replace(
                dead.state,
                execution_state="starting",
                connections=0,
                reason=None,
                annotations=Annotations(document=dead.state.annotations.document),
            )

    def learn(self, state: AgentState) -> None:
        """Take over a newer state document."""
        known = self.state
        if known is not None and known.annotations.revision >= state.annotations.revision:
            # A write of ours was answered while this document was under way, or it is of before the
            # annotations of the workload that died have been moved.
            state = msgspec.structs.replace(state, annotations=known.annotations)
        self.state = state
        if state.is_starting:
            self.pending_until = math.inf
        elif not state.is_dead:
            self.is_public = True
        self.was_terminating = self.was_terminating or state.is_terminating
        self.is_known.set()


def kernel_model(record: Record) -> KernelModel:
    """Return the REST model of a kernel."""
    state = record.state
    reason = record.death or (state.reason.message if state and state.reason else "")
    return KernelModel(
        id=record.kernel_id,
        name=record.kernel_name,
        last_activity=state.last_activity if state else format_time(record.workload.created),
        execution_state=_execution_state(record),
        connections=state.connections if state and record.death is None else 0,
        reason=reason,
    )


def starting_model(launch: LaunchRequest, since: float) -> KernelModel:
    """Return the REST model of a kernel that is being launched."""
    return KernelModel(
        id=launch.kernel_id,
        name=launch.kernel_name,
        last_activity=format_time(since),
        execution_state="starting",
        connections=0,
    )


def format_time(seconds: float) -> str:
    """Return seconds since the epoch in the one form that every client can parse."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _execution_state(record: Record) -> str:
    if record.death is not None:
        return "dead"
    return record.state.execution_state if record.state else "starting"
