"""The state machine of a kernel's record."""

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from enterprise_gateway.services import kernels
from enterprise_gateway.services.kernels.agents.agent import Agent
from enterprise_gateway.services.kernels.agents.state import (
    AgentState,
    Annotations,
    ExecutionState,
    ExitReason,
)
from enterprise_gateway.services.kernels.registry.records import Phase, Record, RecoveredLaunch
from enterprise_gateway.services.processproxies.contract import (
    POOL_USERNAME,
    AgentEndpoint,
    Workload,
    WorkloadState,
)

KERNEL_ID = "k"
ENDPOINT = AgentEndpoint("127.0.0.1", 1)
FAILED = ExitReason("out of memory", signal="SIGKILL")
Event = Callable[[Record], None]


def make_record(*, is_claimed: bool = False) -> Record:
    """Return the record of a kernel that another replica launches."""
    workload = Workload(KERNEL_ID, "ann-k", "ann", WorkloadState.STARTING, 100.0)
    return Record(None, workload, is_claimed=is_claimed)  # type: ignore[arg-type] # no engine is asked


def make_state(
    execution_state: ExecutionState,
    reason: ExitReason | None = None,
    *,
    claimed: bool = False,
    annotations: Annotations = Annotations(),  # noqa: B008 - it is frozen
) -> AgentState:
    """Return a state document."""
    return AgentState(
        KERNEL_ID,
        execution_state,
        "2026-01-02T03:04:05.678901Z",
        kernel_name="python3",
        connections=2,
        reason=reason,
        claimed=claimed,
        annotations=annotations,
    )


def attach(record: Record) -> None:
    """Learn the address of its agent."""
    record.attach(Agent(KERNEL_ID, ENDPOINT, "token"))


def tell(execution_state: ExecutionState, reason: ExitReason | None = None) -> Event:
    """Return the event that an agent tells a state."""
    return lambda record: record.apply_state(make_state(execution_state, reason))


EVENTS: dict[str, Event] = {
    "attach": attach,
    "starting": tell(ExecutionState.STARTING),
    "idle": tell(ExecutionState.IDLE),
    "busy": tell(ExecutionState.BUSY),
    "restarting": tell(ExecutionState.RESTARTING),
    "failed": tell(ExecutionState.DEAD, FAILED),
    "stopping": tell(ExecutionState.TERMINATING, FAILED),
    "terminating": tell(ExecutionState.TERMINATING),
    "ended": tell(ExecutionState.DEAD),
    "die": lambda record: record.die("killed"),
    "forget": lambda record: record.forget(),
}
WAYS: dict[Phase, tuple[str, ...]] = {
    Phase.LAUNCHING_ELSEWHERE: (),
    Phase.STARTING: ("attach",),
    Phase.READY: ("attach", "idle"),
    Phase.ENDING: ("attach", "idle", "terminating"),
    Phase.ENDED: ("attach", "idle", "ended"),
    Phase.DEAD: ("attach", "idle", "die"),
    Phase.FORGOTTEN: ("attach", "idle", "forget"),
}
"""The events that lead to each phase."""
ADVANCES: dict[str, Phase] = {
    "attach": Phase.STARTING,
    "starting": Phase.STARTING,
    "idle": Phase.READY,
    "busy": Phase.READY,
    "restarting": Phase.READY,
    "failed": Phase.READY,
    "stopping": Phase.READY,
    "terminating": Phase.ENDING,
    "ended": Phase.ENDED,
    "die": Phase.DEAD,
    "forget": Phase.FORGOTTEN,
}
"""The phase that each event leads to, unless the kernel is further already."""


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("before", WAYS, ids=lambda phase: phase.name)
async def test_every_event_leads_to_its_phase_and_never_back(before: Phase, event: str) -> None:
    """An agent is not trusted: whatever it tells, a kernel that has ended does not return."""
    record = make_record()
    for each in WAYS[before]:
        EVENTS[each](record)
    assert record.phase is before
    EVENTS[event](record)
    assert record.phase is max(before, ADVANCES[event])


@pytest.mark.parametrize("phase", WAYS, ids=lambda phase: phase.name)
async def test_each_phase_says_what_may_be_asked_of_the_kernel(phase: Phase) -> None:
    """Callers use these predicates, not the phase."""
    record = make_record()
    for each in WAYS[phase]:
        EVENTS[each](record)
    assert record.is_starting is (phase in {Phase.LAUNCHING_ELSEWHERE, Phase.STARTING})
    assert record.is_ending is (phase in {Phase.ENDING, Phase.ENDED})
    assert record.has_ended is (phase is Phase.ENDED)
    assert record.is_dead is (phase is Phase.DEAD)
    assert record.is_over.is_set() is (phase in {Phase.DEAD, Phase.FORGOTTEN})
    assert record.is_known.is_set() is (phase >= Phase.READY)


async def test_first_reason_of_a_death_stays() -> None:
    """Clients are told one reason, and a kernel that was ended on request has none."""
    record = make_record()
    record.die("killed")
    record.die("the node is lost")
    assert record.death == "killed"
    ended = make_record()
    ended.forget()
    ended.die("killed")
    assert ended.death is None


async def test_dead_kernel_is_claimed() -> None:
    """Lists show it, so that its clients learn why it died."""
    record = make_record()
    record.die("killed")
    assert record.is_listed


@pytest.mark.parametrize(
    ("execution_state", "claimed", "is_claimed"),
    [
        (ExecutionState.IDLE, True, True),
        (ExecutionState.IDLE, False, False),
        (ExecutionState.STARTING, True, False),
    ],
)
async def test_claim_is_learnt_from_the_agent_of_a_kernel_that_is_ready(
    execution_state: ExecutionState, *, claimed: bool, is_claimed: bool
) -> None:
    """An agent from before there were claims says nothing, which counts as claimed once ready."""
    record = make_record()
    record.apply_state(make_state(execution_state, claimed=claimed))
    assert record.is_claimed is is_claimed


async def test_kernel_that_may_still_be_launching_is_not_listed() -> None:
    """One that is older than a launch takes, and never answered, may be cut off: it is listed."""
    record = make_record()
    running = dataclasses.replace(record.workload, state=WorkloadState.RUNNING, endpoint=ENDPOINT)
    assert not record.is_listed
    record.apply_workload(running, 1e12, may_be_late=False)
    assert not record.is_listed
    record.apply_workload(running, 30.0, may_be_late=False)
    assert record.is_listed
    starting = dataclasses.replace(running, state=WorkloadState.STARTING)
    record.apply_workload(starting, 30.0, may_be_late=False)
    assert not record.is_listed


async def test_record_of_a_kernel_launched_again_inherits_what_clients_know() -> None:
    """Its claim, name and annotations go on; the state is that of a kernel that starts."""
    former = make_record(is_claimed=True)
    document = msgspec.Raw(b'{"sessions": []}')
    annotations = Annotations(7, document)
    former.apply_state(make_state(ExecutionState.DEAD, FAILED, annotations=annotations))
    former.apply_recovered(RecoveredLaunch({"KERNEL_X": "1"}, "python3"))
    record = make_record()
    attach(record)
    record.inherit(former)
    assert (record.phase, record.is_claimed, record.kernel_name) == (
        Phase.STARTING,
        True,
        "python3",
    )
    assert record.state is not None
    assert record.state.execution_state is ExecutionState.STARTING
    assert (record.state.reason, record.state.connections) == (None, 0)
    assert (record.state.annotations.revision, record.state.annotations.document) == (0, document)


def in_pool(username: str = POOL_USERNAME) -> Workload:
    """Return the workload of a kernel that was launched for a pool, and whose it is."""
    return Workload(
        KERNEL_ID, f"{username}-k", username, WorkloadState.RUNNING, 100.0, ENDPOINT, pool="p"
    )


async def test_late_answer_pauses_no_kernel_and_wakes_none() -> None:
    """Only the engine's news are in order; what they say of a pause holds until the next."""
    running = in_pool("ann")
    paused = dataclasses.replace(running, is_paused=True)
    record = Record(None, running)  # type: ignore[arg-type] # as above
    record.apply_workload(paused, 30.0, may_be_late=True)
    assert not record.is_paused
    record.apply_workload(paused, 30.0, may_be_late=False)
    assert record.is_paused
    record.apply_workload(running, 30.0, may_be_late=True)
    assert record.is_paused
    record.apply_workload(running, 30.0, may_be_late=False)
    assert not record.is_paused


async def test_kernel_that_was_taken_is_never_its_pools_again() -> None:
    """An answer of the engine may have been under way: its owner must not lose it for a moment."""
    record = Record(None, in_pool())  # type: ignore[arg-type] # as above
    record.apply_workload(in_pool("ann"), 30.0, may_be_late=False)
    record.apply_workload(in_pool(), 30.0, may_be_late=False)
    assert (record.is_pooled, record.workload.username) == (False, "ann")


async def test_dead_kernel_is_not_takeable() -> None:
    """Its agent stays, and says that it is in the pool; a restart by itself is no death."""
    record = Record(None, in_pool())  # type: ignore[arg-type] # as above
    attach(record)
    record.open_stream()
    for execution_state, is_dead in (
        (ExecutionState.IDLE, False),
        (ExecutionState.RESTARTING, False),
        (ExecutionState.DEAD, True),
    ):
        state = make_state(execution_state, FAILED)
        record.apply_state(msgspec.structs.replace(state, pooled=True))
        assert (record.is_takeable, record.is_dead_in_pool) == (not is_dead, is_dead)


async def test_older_annotations_do_not_replace_newer_ones() -> None:
    """The agent answered a write of ours while an older document was under way."""
    record = make_record()
    record.apply_state(make_state(ExecutionState.IDLE))
    newer = Annotations(2, msgspec.Raw(b'{"a": 1}'))
    record.apply_annotations(newer)
    record.apply_annotations(Annotations(1))
    record.apply_state(make_state(ExecutionState.BUSY, annotations=Annotations(1)))
    assert record.state is not None
    assert record.state.execution_state is ExecutionState.BUSY
    assert record.state.annotations is newer


def test_nothing_but_a_record_writes_its_fields() -> None:
    """Transitions are its methods, so that the state machine can be read in one place."""
    fields = {field.name for field in dataclasses.fields(Record)}
    root = Path(kernels.__file__).parent
    writes = [
        f"{path.name}:{node.lineno}"
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store | ast.Del)
        and node.attr in fields
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    assert writes == []
