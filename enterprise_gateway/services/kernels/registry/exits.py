"""Decides what follows from the exit of a kernel's workload. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum

from enterprise_gateway.services.kernels.agents.state import AgentState, ExitReason
from enterprise_gateway.services.kernels.registry.records import Phase, Record
from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    Workload,
    WorkloadState,
)


class Cause(StrEnum):
    """Why kernels die, in few words: the labels of metrics."""

    OUT_OF_MEMORY = "out_of_memory"
    SIGNAL = "signal"
    EXIT_CODE = "exit_code"
    DISAPPEARED = "disappeared"
    """The workload is gone, and the reason is not known."""
    NODE_LOST = "node_lost"
    STOPPED = "stopped"
    """From outside: a drained node, an engine that restarts."""
    OTHER = "other"


_CAUSES = (
    (re.compile(r"out of memory|memory limit"), Cause.OUT_OF_MEMORY),
    (re.compile(r"exit code 143\b"), Cause.STOPPED),
    # Beyond 128 an exit code is 128 and the number of a signal.
    (re.compile(r"killed by |exit code (129|1[3-9]\d|2\d\d)\b"), Cause.SIGNAL),
    (re.compile(r"exit code \d"), Cause.EXIT_CODE),
    (re.compile(r"\bnode "), Cause.NODE_LOST),
    (re.compile(r"^$|disappeared"), Cause.DISAPPEARED),
)
"""What engines say of the exit of a workload, in process proxies' words; the first that fits."""


@dataclass(frozen=True, slots=True)
class Death:
    """The exit of a workload that was not requested."""

    reason: str
    """The text for clients."""
    cause: Cause


@dataclass(frozen=True, slots=True)
class Exit:
    """The meaning of a workload's exit."""

    death: Death | None
    """None: the kernel ended on request."""
    is_known: bool
    """Whether a client may know the kernel, and so is told of its death."""


def decide_exit(record: Record, workload: Workload) -> Exit:
    """Decide what the exit of a workload means.

    Args:
        record: its kernel, which has not died before.
        workload: what the engine says of it, with the reason of its exit if there is one.
    """
    is_known = record.is_listed or (not record.is_pooled and _may_be_claimed(record, workload))
    reason = death_reason(record.state, workload.exit_reason, is_ending=record.is_ending)
    if reason is None:
        return Exit(None, is_known)
    cause = death_cause(record.state, workload.exit_reason, was_stopped=record.was_stopped)
    return Exit(Death(reason, cause), is_known)


def death_reason(
    state: AgentState | None, exit_reason: str, *, is_ending: bool = False
) -> str | None:
    """Return why a kernel died; None if it ended on request.

    Requests are DELETE, culling and a client's shutdown_request: the agent goes through
    `terminating` to `dead`, and its exit code is 0.

    Args:
        state: the last state document, None if there was none.
        exit_reason: what the engine says, "" if nothing.
        is_ending: whether the agent has ever said that the kernel is ending on request.
    """
    if is_ending or exit_reason == ORDERLY_EXIT:
        return None
    if state is not None and state.is_dead:
        return state.reason.message if state.reason is not None else None
    return f"the kernel's workload ended: {exit_reason or 'it disappeared'}"


def death_cause(state: AgentState | None, exit_reason: str, *, was_stopped: bool) -> Cause:
    """Return the cause of a death.

    Args:
        state: as for `death_reason`.
        exit_reason: likewise.
        was_stopped: whether the agent has said that it was told to stop from outside.
    """
    if state is not None and state.is_dead and state.reason is not None:
        return Cause.STOPPED if was_stopped else exit_cause(state.reason)
    fits = (cause for pattern, cause in _CAUSES if pattern.search(exit_reason))
    return next(fits, Cause.OTHER)


def exit_cause(reason: ExitReason) -> Cause:
    """Return why a kernel process ended, by what its agent says."""
    if reason.out_of_memory:
        return Cause.OUT_OF_MEMORY
    if reason.signal:
        return Cause.SIGNAL
    return Cause.EXIT_CODE if reason.exit_code is not None else Cause.OTHER


def is_orphan(record: Record, now: float, orphan_seconds: float) -> bool:
    """Say whether no client can use a kernel, now or later.

    Its workload runs, but there is no agent: connections are refused, which is more than not to be
    answered. A kernel whose agent has ever answered this replica is never an orphan, nor is one
    that may still be given a sidecar.

    Args:
        record: the kernel.
        now: by the event loop's clock.
        orphan_seconds: for how long connections must have been refused.
    """
    if record.is_known.is_set() or record.agent is None:
        return False
    if record.workload.state is not WorkloadState.RUNNING:
        return False
    since = record.agent.refused_since
    return since is not None and now - since >= max(orphan_seconds, _launch_timeout(record))


def _launch_timeout(record: Record) -> float:
    """Return how long a kernel that another replica launched may take, as its client asked."""
    client_env = record.recovered.client_env if record.recovered is not None else {}
    try:
        return float(client_env.get("KERNEL_LAUNCH_TIMEOUT", ""))
    except ValueError:
        return 0.0


def _may_be_claimed(record: Record, workload: Workload) -> bool:
    """Say whether a client may know a kernel of another replica whose agent never answered here.

    A kernel that was seen to run may be known if it leaves a tombstone: a start that failed leaves
    none.
    """
    is_unheard = record.state is None and record.launch is None
    has_run = record.phase is not Phase.LAUNCHING_ELSEWHERE
    return is_unheard and has_run and workload.is_tombstone
