"""What a workload's end means."""

import pytest

from enterprise_gateway.services.kernels.fate import decide_death
from enterprise_gateway.services.kernels.state import AgentState, ExitReason


def state(execution_state: str, reason: ExitReason | None = None) -> AgentState:
    """Return a state document."""
    return AgentState("k", execution_state, "2026-01-02T03:04:05.678901Z", reason=reason)


@pytest.mark.parametrize(
    ("last", "exit_reason"),
    [
        (state("dead"), "exit code 0"),
        (state("dead"), "the process ended"),
        (state("dead", ExitReason("the kernel ended", exit_code=0)), ""),
        (state("terminating"), ""),
        (state("idle"), "exit code 0"),
        (None, "exit code 0"),
    ],
)
def test_orderly_ends_are_no_deaths(last: AgentState | None, exit_reason: str) -> None:
    """DELETE, culling and shutdown_request leave nothing to explain."""
    assert decide_death(last, exit_reason) is None


@pytest.mark.parametrize(
    ("last", "exit_reason", "says"),
    [
        (state("dead", ExitReason("out of memory", signal="SIGKILL")), "", "out of memory"),
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
    assert says in (decide_death(last, exit_reason) or "")
