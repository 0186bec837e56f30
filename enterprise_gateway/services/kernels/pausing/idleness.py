"""Decides which kernels may be paused, and until when. No clock, no I/O."""

import math
from datetime import datetime

from enterprise_gateway.services.kernels.agents.state import AgentState, ExecutionState
from enterprise_gateway.services.kernels.planning.culling import IdleTimes


def is_idle(state: AgentState) -> bool:
    """Say whether nothing uses a kernel: it runs no request, and no client is connected with it.

    What a client sends on an open WebSocket would wake nothing.
    """
    return (
        state.execution_state is ExecutionState.IDLE
        and not state.has_connections
        and not state.requests
        and state.claimed
        and not state.pooled
    )


def end_of(state: AgentState, created: float, times: IdleTimes) -> float:
    """Return when a kernel that stays idle is ended by its agent, which must not be paused then.

    Args:
        state: the kernel's.
        created: when its workload was created, in seconds since the epoch. One that waited in a
            pool grows old later.
        times: what holds for it.

    Returns:
        Seconds since the epoch; infinity: it is not ended.
    """
    ends = [math.inf]
    if times.cull_idle_timeout > 0:
        active = datetime.fromisoformat(state.last_activity).timestamp()
        ends.append(active + times.cull_idle_timeout)
    if times.max_kernel_age > 0:
        ends.append(created + times.max_kernel_age)
    return min(ends)
