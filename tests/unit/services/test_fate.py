"""What a workload's end means."""

import pytest

from enterprise_gateway.services.kernels.agent import Agent
from enterprise_gateway.services.kernels.fate import ORPHAN_SECONDS, decide_death, is_orphan
from enterprise_gateway.services.kernels.records import Record
from enterprise_gateway.services.kernels.state import AgentState, ExitReason
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    Workload,
    WorkloadState,
)


def state(execution_state: str, reason: ExitReason | None = None) -> AgentState:
    """Return a state document."""
    return AgentState("k", execution_state, "2026-01-02T03:04:05.678901Z", reason=reason)


FAILED = ExitReason("out of memory", signal="SIGKILL")


@pytest.mark.parametrize(
    ("last", "exit_reason", "was_terminating"),
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
    last: AgentState | None, exit_reason: str, *, was_terminating: bool
) -> None:
    """DELETE, culling and shutdown_request leave nothing to explain."""
    assert decide_death(last, exit_reason, was_terminating=was_terminating) is None


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
    """Whoever knew why is quoted: the agent first, then the engine."""
    assert says in (decide_death(last, exit_reason, was_terminating=False) or "")


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        (None, ORPHAN_SECONDS),
        ({}, ORPHAN_SECONDS),
        ({"KERNEL_LAUNCH_TIMEOUT": "30"}, ORPHAN_SECONDS),
        ({"KERNEL_LAUNCH_TIMEOUT": "soon"}, ORPHAN_SECONDS),
        ({"KERNEL_LAUNCH_TIMEOUT": "300"}, 300.0),
    ],
)
async def test_kernel_is_no_orphan_while_it_may_be_launched(
    env: dict[str, str] | None, seconds: float
) -> None:
    """Another gateway process may still give it a companion, which listens elsewhere."""
    endpoint = AgentEndpoint("127.0.0.1", 1)
    workload = Workload("k", "ann-k", "ann", WorkloadState.RUNNING, 0.0, endpoint)
    record = Record(None, workload, client_env=env)  # type: ignore[arg-type] # nobody is asked
    record.agent = Agent("k", endpoint, "token")
    record.agent.refused_since = 1000.0
    assert not is_orphan(record, 1000.0 + seconds - 1)
    assert is_orphan(record, 1000.0 + seconds)
    await record.agent.close()
