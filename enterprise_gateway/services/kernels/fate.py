"""What a workload's end means: pure decisions."""

from enterprise_gateway.services.kernels.state import AgentState

ORDERLY_EXIT = "exit code 0"
"""What engines say of an agent that ended because it was meant to."""


def decide_death(
    state: AgentState | None, exit_reason: str, *, was_terminating: bool
) -> str | None:
    """Return why a kernel died; None if it ended because somebody wanted it to.

    Wanted ends are DELETE, culling and a client's shutdown_request: the agent goes through
    `terminating` to `dead`, and its exit code is 0.

    Args:
        state: the last state document, None if there was none.
        exit_reason: what the engine says, "" if nothing.
        was_terminating: whether the agent has ever said so.
    """
    if was_terminating or exit_reason == ORDERLY_EXIT:
        return None
    if state is not None and state.is_dead:
        return state.reason.message if state.reason is not None else None
    return f"the kernel's workload ended: {exit_reason or 'it disappeared'}"
