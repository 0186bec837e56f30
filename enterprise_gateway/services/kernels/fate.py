"""What a workload's end means: pure decisions."""

from enterprise_gateway.services.kernels.state import AgentState

ORDERLY_EXIT = "exit code 0"
"""What engines say of an agent that ended because it was meant to."""


def decide_death(state: AgentState | None, exit_reason: str) -> str | None:
    """Return why a kernel died; None if it ended because somebody wanted it to.

    Wanted ends are DELETE, culling and a client's shutdown_request: the agent then ends with exit
    code 0, and its last state document says `dead` without a failure.

    Args:
        state: the last state document, None if there was none.
        exit_reason: what the engine says, "" if nothing.
    """
    if state is not None and state.is_dead:
        reason = state.reason
        return reason.message if reason is not None and reason.exit_code != 0 else None
    if exit_reason == ORDERLY_EXIT or (state and state.execution_state == "terminating"):
        return None
    return f"the kernel's workload ended: {exit_reason or 'it disappeared'}"
