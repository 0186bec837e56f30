"""Decisions about the exits of workloads."""

import signal

import msgspec
import pytest

from enterprise_gateway.services.kernels.agents.agent import Agent
from enterprise_gateway.services.kernels.agents.state import AgentState, ExecutionState, ExitReason
from enterprise_gateway.services.kernels.registry.exits import (
    Cause,
    Death,
    Exit,
    death_cause,
    death_reason,
    decide_exit,
    exit_cause,
    is_orphan,
)
from enterprise_gateway.services.kernels.registry.records import Record, RecoveredLaunch
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.scripts.runner import describe_wait_status
from enterprise_gateway.services.processproxies.workloads.containers import describe_exit
from enterprise_gateway.services.processproxies.workloads.sidecars import SIDECAR_ENDED


def state(execution_state: str, reason: ExitReason | None = None) -> AgentState:
    """Return a state document."""
    return AgentState(
        "k", ExecutionState(execution_state), "2026-01-02T03:04:05.678901Z", reason=reason
    )


def unclaimed(execution_state: str) -> AgentState:
    """Return the state document of a kernel that no client has claimed."""
    return msgspec.structs.replace(state(execution_state), claimed=False)


FAILED = ExitReason("out of memory", signal="SIGKILL")


@pytest.mark.parametrize(
    ("last", "exit_reason", "is_ending"),
    [
        (state("dead"), "the process ended", False),
        (state("dead"), "", False),
        (state("dead", FAILED), "the process ended", True),
        (state("dead", FAILED), "exit code 0", False),
        (state("terminating"), "", True),
        (state("idle"), "exit code 0", False),
        (None, "exit code 0", False),
    ],
)
def test_orderly_ends_are_no_deaths(
    last: AgentState | None, exit_reason: str, *, is_ending: bool
) -> None:
    """DELETE, culling and shutdown_request leave nothing to explain."""
    assert death_reason(last, exit_reason, is_ending=is_ending) is None


@pytest.mark.parametrize(("reason", "is_wanted"), [(None, True), (FAILED, False)])
def test_end_with_a_reason_is_not_wanted(reason: ExitReason | None, *, is_wanted: bool) -> None:
    """An agent that was told to stop from outside says `terminating`, too."""
    assert state("terminating", reason).is_terminating is is_wanted


@pytest.mark.parametrize(
    ("last", "exit_reason", "says"),
    [
        (state("dead", FAILED), "", "out of memory"),
        (state("dead", FAILED), "exit code 1", "out of memory"),
        (state("idle"), "exit code 137 (out of memory)", "exit code 137"),
        (state("busy"), "", "disappeared"),
        (None, "", "disappeared"),
        (None, "exit code 1", "exit code 1"),
    ],
)
def test_other_ends_are_deaths_with_a_reason(
    last: AgentState | None, exit_reason: str, says: str
) -> None:
    """The agent's reason goes before the engine's."""
    assert says in (death_reason(last, exit_reason, is_ending=False) or "")


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        (None, 30.0),
        ({}, 30.0),
        ({"KERNEL_LAUNCH_TIMEOUT": "30"}, 30.0),
        ({"KERNEL_LAUNCH_TIMEOUT": "soon"}, 30.0),
        ({"KERNEL_LAUNCH_TIMEOUT": "300"}, 300.0),
    ],
)
async def test_kernel_is_no_orphan_while_it_may_be_launched(
    env: dict[str, str] | None, seconds: float
) -> None:
    """Another replica may still give it a sidecar, which listens elsewhere."""
    endpoint = AgentEndpoint("127.0.0.1", 1)
    workload = Workload("k", "ann-k", "ann", WorkloadState.RUNNING, 0.0, endpoint)
    record = Record(None, workload)  # type: ignore[arg-type] # no engine is asked
    if env is not None:
        record.apply_recovered(RecoveredLaunch(env, ""))
    agent = Agent("k", endpoint, "token")
    agent.refused_since = 1000.0
    record.attach(agent)
    assert not is_orphan(record, 1000.0 + seconds - 1, orphan_seconds=30.0)
    assert is_orphan(record, 1000.0 + seconds, orphan_seconds=30.0)
    agent.close()


@pytest.mark.parametrize(
    ("exit_reason", "cause"),
    [
        (describe_exit("137", out_of_memory=True), "out_of_memory"),
        ("exit code 137 (killed), as happens beyond its memory limit of 64 MiB", "out_of_memory"),
        (describe_exit("137", out_of_memory=False), "signal"),
        (describe_exit("139", out_of_memory=False), "signal"),
        (describe_wait_status(signal.SIGSEGV), "signal"),
        (describe_exit("143", out_of_memory=False), "stopped"),
        (describe_exit("1", out_of_memory=False), "exit_code"),
        (describe_wait_status(3 << 8), "exit_code"),
        (f"{SIDECAR_ENDED}exit code 127", "exit_code"),
        (describe_exit("", out_of_memory=False), "disappeared"),
        ("", "disappeared"),
        ("node worker-1 is down", "node_lost"),
        ("the swarm ended its task: node n2 was down, or is being drained", "node_lost"),
        ("the process ended", "other"),
    ],
)
def test_deaths_are_counted_by_what_engines_say(exit_reason: str, cause: str) -> None:
    """In a few words, whatever the engine's are."""
    assert death_cause(None, exit_reason, was_stopped=False) == cause
    assert death_cause(state("idle"), exit_reason, was_stopped=False) == cause


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (ExitReason("x", signal="SIGKILL", out_of_memory=True), "out_of_memory"),
        (ExitReason("x", signal="SIGKILL"), "signal"),
        (ExitReason("x", exit_code=3), "exit_code"),
        (ExitReason("x"), "other"),
    ],
)
def test_deaths_are_counted_by_what_agents_say(reason: ExitReason, cause: str) -> None:
    """An agent knows more than the engine."""
    assert exit_cause(reason) == cause
    assert death_cause(state("dead", reason), "exit code 1", was_stopped=False) == cause
    assert death_cause(state("dead", reason), "", was_stopped=True) == "stopped"


ENDPOINT = AgentEndpoint("127.0.0.1", 1)
KILLED = Death("the kernel's workload ended: exit code 137 (killed)", Cause.SIGNAL)


def exited(*, is_tombstone: bool = False) -> Workload:
    """Return a workload that was killed."""
    return Workload(
        "k",
        "ann-k",
        "ann",
        WorkloadState.DEAD,
        0.0,
        exit_reason="exit code 137 (killed)",
        is_tombstone=is_tombstone,
    )


def make_record(*told: AgentState, is_claimed: bool = False, has_agent: bool = True) -> Record:
    """Return the record of another replica's kernel whose agent has told these states."""
    running = Workload("k", "ann-k", "ann", WorkloadState.RUNNING, 0.0, ENDPOINT)
    record = Record(None, running, is_claimed=is_claimed)  # type: ignore[arg-type] # no engine is asked
    if has_agent:
        record.attach(Agent("k", ENDPOINT, "token"))
    for each in told:
        record.apply_state(each)
    return record


async def test_clients_are_told_of_the_death_of_a_kernel_that_they_know() -> None:
    """With the engine's reason, if its agent has told none."""
    record = make_record(state("idle"), is_claimed=True)
    assert decide_exit(record, exited()) == Exit(KILLED, is_known=True)


async def test_clients_are_not_told_of_a_requested_end() -> None:
    """Once the agent has said so, the exit code does not matter."""
    record = make_record(state("idle"), state("terminating"), is_claimed=True)
    assert decide_exit(record, exited()).death is None


async def test_clients_are_not_told_of_a_kernel_that_none_knows() -> None:
    """Its death is for the log only."""
    record = make_record(unclaimed("idle"))
    assert decide_exit(record, exited()) == Exit(KILLED, is_known=False)


@pytest.mark.parametrize(
    ("has_agent", "is_tombstone", "is_known"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
async def test_kernel_that_never_answered_here_may_be_known_if_it_was_ready(
    *, has_agent: bool, is_tombstone: bool, is_known: bool
) -> None:
    """It ran, and it left a tombstone, which a failed start does not."""
    record = make_record(has_agent=has_agent)
    assert decide_exit(record, exited(is_tombstone=is_tombstone)).is_known is is_known
