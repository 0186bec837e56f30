"""One kernel as this replica knows it: a state machine.

Nothing but the methods of `Record` writes its fields; a test holds that.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, auto

import msgspec

from enterprise_gateway.services.kernels.agents.agent import Agent
from enterprise_gateway.services.kernels.agents.state import (
    AgentState,
    Annotations,
    ExecutionState,
)
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.steps import StartTimes


class Phase(IntEnum):
    """How far the life of a kernel has come. A kernel never returns to an earlier phase.

    A kernel that died and is launched again gets a new record.
    """

    LAUNCHING_ELSEWHERE = auto()
    """Another replica launches it. The address of its agent is not known."""
    STARTING = auto()
    """The address of its agent is known. The agent has not said that the kernel is ready."""
    READY = auto()
    """The kernel has answered its agent. It may be busy, restarting, or have failed since then."""
    ENDING = auto()
    """Its agent has said that the kernel is ending on request."""
    ENDED = auto()
    """Its agent has said that the kernel has ended on request. Its workload is still there."""
    DEAD = auto()
    """Its workload has died. It is remembered so that clients learn why."""
    FORGOTTEN = auto()
    """It is not in the registry any more."""


@dataclass(frozen=True, slots=True)
class RecoveredLaunch:
    """The launch of another replica's kernel, as far as its workload shows it."""

    client_env: Mapping[str, str] = field(repr=False)
    """The variables that its client may have sent; empty: they cannot be known."""
    kernel_name: str
    """The kernelspec's name, "" if it is not known."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Record:
    """A kernel with a workload, or the memory of one that died."""

    proxy: BaseProcessProxyABC
    workload: Workload
    launch: LaunchRequest | None = None
    """How to launch it again; None if another replica launched it, or took it from its pool."""
    is_claimed: bool = False
    """Whether a client knows it: it was answered to one, or one has asked for it by its id."""
    phase: Phase = Phase.LAUNCHING_ELSEWHERE
    recovered: RecoveredLaunch | None = None
    """How another replica launched it; None: that is not known yet."""
    agent: Agent | None = None
    """None unless the agent's address is known and the kernel lives."""
    state: AgentState | None = None
    """The newest state document."""
    launched: StartTimes | None = None
    """How long its launch took, if it was launched and measured here."""
    requested_by: str = ""
    """The user who last asked this replica to restart or end it, "" if none has."""
    death: str | None = None
    """Why its workload died; None: it did not."""
    was_stopped: bool = False
    """Whether its agent has said that it was told to stop from outside."""
    pending_until: float = math.inf
    """Until when, in seconds since the epoch, its agent may not have begun to listen."""
    found: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """When this replica first saw it, by the event loop's clock."""
    quiet_since: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """Since when this replica has seen nothing happen to it, by the event loop's clock."""
    used_until: float = -math.inf
    """Until when its agent may be busy with a request of this replica that its state does not show
    yet, by the event loop's clock."""
    is_awake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless its workload is paused."""
    is_known: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its agent has told its state, or the kernel has died."""
    is_silent: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless the state stream is open, so that `state` is at most a moment old."""
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it has died, or was forgotten."""
    is_forgotten: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it has left the registry: removed, or launched again in a new record."""

    def __post_init__(self) -> None:
        """Begin without a state stream."""
        self.is_silent.set()
        if not self.workload.is_paused:
            self.is_awake.set()

    @property
    def kernel_id(self) -> str:
        """The kernel's id."""
        return self.workload.kernel_id

    @property
    def kernel_name(self) -> str:
        """The kernelspec's name, "" while it is not known.

        The engine's word goes before the agent's, which is not trusted.
        """
        if self.launch is not None:
            return self.launch.kernel_name
        if self.recovered is not None and self.recovered.kernel_name:
            return self.recovered.kernel_name
        return self.state.kernel_name if self.state is not None else ""

    @property
    def start(self) -> StartTimes | None:
        """How long its latest start or restart took, as far as it is known."""
        if self.launched is not None and (self.state is None or not self.state.restarts):
            return self.launched
        return self.state.start if self.state is not None else None

    @property
    def is_listed(self) -> bool:
        """Whether lists show it: it is claimed, as far as this replica can tell.

        A workload that is older than a launch takes, and whose agent has never answered here, may
        be cut off. Its kernel counts as claimed, since clients forget the kernels that no list
        shows.
        """
        if self.is_pooled:
            return False
        return self.is_claimed or (self.state is None and time.time() >= self.pending_until)

    @property
    def is_pooled(self) -> bool:
        """Whether it waits in a pool, so that it is no client's.

        The engine's word counts: an agent is trusted no more once a user can run code beside it.
        """
        return self.workload.is_pooled

    @property
    def may_have_changed_hands(self) -> bool:
        """Whether another replica may have given it to a client, which is not known here yet."""
        return self.phase is Phase.LAUNCHING_ELSEWHERE or self.is_pooled

    @property
    def is_takeable(self) -> bool:
        """Whether it can be taken from its pool now."""
        state = self._state_in_pool
        return state is not None and not state.is_dead

    @property
    def is_dead_in_pool(self) -> bool:
        """Whether it has no process any more, though its workload waits in a pool."""
        state = self._state_in_pool
        return state is not None and state.is_dead

    @property
    def _state_in_pool(self) -> AgentState | None:
        """What its agent says of it now, None unless it was ready and is in a pool."""
        is_ready = self.phase is Phase.READY and not self.is_silent.is_set()
        is_waiting = self.is_pooled and self.state is not None and self.state.pooled
        return self.state if is_ready and is_waiting else None

    @property
    def is_dead(self) -> bool:
        """Whether its workload has died."""
        return self.death is not None

    @property
    def is_paused(self) -> bool:
        """Whether its processes are stopped, its agent among them."""
        return not self.is_awake.is_set()

    @property
    def is_in_use(self) -> bool:
        """Whether its agent must not be stopped, since this replica has just asked it something."""
        return asyncio.get_running_loop().time() < self.used_until

    @property
    def is_starting(self) -> bool:
        """Whether its agent has not said yet that it is ready."""
        return self.phase <= Phase.STARTING

    @property
    def is_ending(self) -> bool:
        """Whether its agent has said that it is ending, or has ended, on request."""
        return self.phase in (Phase.ENDING, Phase.ENDED)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended on request, though it is not forgotten yet."""
        return self.phase is Phase.ENDED

    def take(self, launch: LaunchRequest, state: AgentState) -> None:
        """Become the kernel of the user for whom its agent was told to take it from its pool.

        Args:
            launch: how to launch it again.
            state: what its agent says of it now.
        """
        self.launch = launch
        self.apply_state(state)

    def claim(self) -> None:
        """Remember that a client knows the kernel."""
        self.is_claimed = True

    def note_request(self, by: str) -> None:
        """Remember who asks for its restart or end, for the event that tells of it."""
        self.requested_by = by

    def apply_workload(
        self, workload: Workload, launch_timeout: float, *, may_be_late: bool
    ) -> None:
        """Apply the engine's report of the workload.

        Args:
            workload: the same workload, in a newer state.
            launch_timeout: how many seconds its launch may take.
            may_be_late: whether it is an answer, and news that came since may have overtaken it.
        """
        if workload.is_pooled and not self.is_pooled:
            return  # an answer that was under way when it was taken; no kernel returns to a pool
        self.apply_owner(workload)
        if may_be_late:
            workload = replace(workload, is_paused=self.workload.is_paused)
        if workload.is_paused != self.workload.is_paused:
            self.note_news()
        self.workload = workload
        if workload.is_paused:
            self.is_awake.clear()
        else:
            self.is_awake.set()
        if self.state is None:
            is_starting = workload.state is WorkloadState.STARTING
            self.pending_until = math.inf if is_starting else workload.created + launch_timeout

    def apply_owner(self, workload: Workload) -> None:
        """Apply what any news of the workload tells of a user who has taken it from its pool."""
        if workload.is_pooled or not workload.username:
            return
        if self.is_pooled:
            self.workload = replace(self.workload, name=workload.name, username=workload.username)
        if self.launch is not None and self.launch.pool:
            self.launch = None  # its user would have it launched otherwise

    def note_news(self) -> None:
        """Remember that something has happened to it, or that it could not be paused."""
        self.quiet_since = asyncio.get_running_loop().time()

    def note_use(self, seconds: float) -> None:
        """Remember that its agent must not be stopped for some seconds."""
        self.note_news()
        self.used_until = max(self.used_until, self.quiet_since + seconds)

    def attach(self, agent: Agent) -> None:
        """Use the agent at the workload's address."""
        self.agent = agent
        self._advance(Phase.STARTING)

    def detach(self) -> Agent | None:
        """Stop using the agent, and return it."""
        agent, self.agent = self.agent, None
        self.is_silent.set()
        return agent

    def open_stream(self) -> None:
        """Record that the state stream is open, and that it has sent the present state."""
        self.is_silent.clear()

    def close_stream(self) -> None:
        """Record that the state stream is closed."""
        self.is_silent.set()

    def apply_state(self, state: AgentState) -> None:
        """Apply a newer state document."""
        known = self.state
        if known is None or not known.is_like(state):
            self.note_news()
        if known is not None and known.annotations.revision >= state.annotations.revision:
            # The agent answered a write of ours while this document was under way, or the document
            # is from before the annotations of the workload that died were moved.
            state = msgspec.structs.replace(state, annotations=known.annotations)
        self.state = state
        if state.claimed and not state.is_starting:
            self.is_claimed = True
        self.was_stopped = self.was_stopped or state.is_stopping
        self._advance(_phase_of(state))
        self.is_known.set()

    def apply_annotations(self, annotations: Annotations) -> None:
        """Apply annotations from an answer of the agent."""
        if self.state is not None and annotations.revision > self.state.annotations.revision:
            self.state = msgspec.structs.replace(self.state, annotations=annotations)

    def complete_launch(self, launched: StartTimes) -> None:
        """Remember how long the launch took that has succeeded here."""
        self.launched = launched

    def apply_recovered(self, recovered: RecoveredLaunch) -> None:
        """Store how another replica launched the kernel."""
        self.recovered = recovered

    def inherit(self, former: "Record") -> None:
        """Take the place of the record of an earlier workload, of which clients may know."""
        self.is_claimed = self.is_claimed or former.is_claimed
        self.launch = self.launch or former.launch
        self.recovered = former.recovered
        if former.state is not None:
            self.state = msgspec.structs.replace(
                former.state,
                execution_state=ExecutionState.STARTING,
                connections=0,
                reason=None,
                requests=(),
                restarts=0,
                start=None,
                ended_by="",
                usage=None,
                annotations=Annotations(document=former.state.annotations.document),
            )

    def die(self, death: str) -> None:
        """Remember that the workload has died, for clients to learn why.

        The first reason stays; a kernel that is forgotten does not die.
        """
        if self.phase >= Phase.DEAD:
            return
        self.death = death
        self.is_claimed = True
        self._advance(Phase.DEAD)
        self.is_known.set()
        self.is_awake.set()
        self.is_over.set()

    def forget(self) -> None:
        """Leave the registry, for good."""
        self._advance(Phase.FORGOTTEN)
        self.is_awake.set()
        self.is_over.set()
        self.is_forgotten.set()

    def _advance(self, phase: Phase) -> None:
        self.phase = max(self.phase, phase)


def _phase_of(state: AgentState) -> Phase:
    """Return the phase that a state document tells of."""
    if state.has_ended:
        return Phase.ENDED
    if state.is_terminating:
        return Phase.ENDING
    return Phase.STARTING if state.is_starting else Phase.READY
