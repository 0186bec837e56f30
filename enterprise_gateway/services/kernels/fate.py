"""What a workload's end means: pure decisions."""

from enterprise_gateway.services.kernels.records import Record
from enterprise_gateway.services.kernels.state import AgentState
from enterprise_gateway.services.processproxies.contract import ORDERLY_EXIT, WorkloadState

ORPHAN_SECONDS = 30.0
"""How long a workload runs without anything that listens where its agent should be.

An agent listens within about a second of its container's start. Orphans are to be gone after a
minute; of that, up to ten seconds pass before the next look, and an engine may take fifteen to end
a container.
"""


def is_orphan(record: Record, now: float) -> bool:
    """Say whether no client can use a kernel, now or later.

    Its workload runs, but there is no agent: connections are refused, which is more than not to be
    answered. A kernel whose agent has ever answered this gateway process is never an orphan, nor is
    one that may still be given a companion.

    Args:
        record: what is known of the kernel.
        now: by the event loop's clock.
    """
    if record.is_known.is_set() or record.agent is None:
        return False
    if record.workload.state is not WorkloadState.RUNNING:
        return False
    since = record.agent.refused_since
    return since is not None and now - since >= max(ORPHAN_SECONDS, _launch_timeout(record))


def _launch_timeout(record: Record) -> float:
    """Return how long a kernel that another gateway process launched may take, as it was told."""
    stated = (record.client_env or {}).get("KERNEL_LAUNCH_TIMEOUT", "")
    try:
        return float(stated)
    except ValueError:
        return 0.0


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
