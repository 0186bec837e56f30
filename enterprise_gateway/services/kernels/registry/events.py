"""Makes the events of kernels from what this replica knows of them.

Deaths and ends are seen by every replica, and told by each with the same id: one that is killed
loses none. Of a kernel's owner the workload tells, and not its agent.
"""

import time
from typing import TypedDict

from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.events.events import (
    MAX_NAME_CHARS,
    MAX_REASON_CHARS,
    Claimed,
    Culled,
    Dead,
    Ended,
    Failed,
    Ready,
    Refused,
    Requested,
    Restarted,
    Usage,
    shared_id,
    unique_id,
)
from enterprise_gateway.services.kernels.agents.state import format_time
from enterprise_gateway.services.kernels.registry.exits import Death
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.processproxies.steps import StartTimes
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.services.request_scope import current_client
from enterprise_gateway.settings.values.amounts import NANO

MAX_CPUS = 1024
"""How many CPUs a kernel may have used at once if it has no limit."""
CULLER = "culler"
ENDED_BY = frozenset({"gateway", "client", CULLER, "agent"})
"""What agents say has ended their kernels; they can name no user."""


class KernelEvents:
    """Tells the events of kernels."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    def requested(self, kernel_id: str, kernel_name: str, username: str) -> None:
        """Tell that a user asks for a kernel."""
        self._bus.publish(
            Requested(
                id=unique_id(),
                time=_now(),
                owner=escape_username(username),
                kernel_id=kernel_id,
                kernel_name=kernel_name[:MAX_NAME_CHARS],
                by=current_client(),
            )
        )

    def not_started(
        self,
        kernel_id: str,
        kernel_name: str,
        username: str,
        *,
        error: str,
        reason: str,
        is_refusal: bool,
    ) -> None:
        """Tell that a start was refused, or failed.

        Args:
            kernel_id: "" if it had none yet.
            kernel_name: "" if there is no such kernelspec.
            username: "" if it was not known yet.
            error: the class of the error.
            reason: its text.
            is_refusal: whether it was refused.
        """
        kind = Refused if is_refusal else Failed
        self._bus.publish(
            kind(
                id=unique_id(),
                time=_now(),
                owner=escape_username(username) if username else "",
                kernel_id=kernel_id,
                kernel_name=kernel_name[:MAX_NAME_CHARS],
                by=current_client(),
                error=error,
                reason=reason[:MAX_REASON_CHARS],
            )
        )

    def ready(self, record: Record, start: StartTimes) -> None:
        """Tell that a kernel that this replica launched is ready."""
        self._bus.publish(
            Ready(
                id=unique_id(),
                **_about(record),
                by=current_client(),
                seconds=_rounded(start.seconds),
            )
        )

    def claimed(self, record: Record, start: StartTimes, *, requested: str) -> None:
        """Tell that a user was given a kernel of a pool.

        Args:
            record: the kernel.
            start: how long that took.
            requested: the id that the kernel would have had without a pool.
        """
        self._bus.publish(
            Claimed(
                id=unique_id(),
                **_about(record),
                by=current_client(),
                requested=requested,
                seconds=_rounded(start.seconds),
                waited=_age(record),
            )
        )

    def restarted(
        self, record: Record, by: str, reason: str = "", start: StartTimes | None = None
    ) -> None:
        """Tell that a kernel was restarted in place.

        Args:
            record: the kernel.
            by: the user, or `agent`.
            reason: why its agent restarted it.
            start: how long it took, if that is known.
        """
        restarts = record.state.restarts if record.state is not None else 0
        self._bus.publish(
            Restarted(
                id=_id_of(record, "restarted"),
                **_about(record),
                by=by,
                restarts=restarts,
                seconds=_rounded(start.seconds) if start is not None else None,
                reason=reason[:MAX_REASON_CHARS],
            )
        )

    def dead(self, record: Record, death: Death) -> None:
        """Tell that a kernel died."""
        self._bus.publish(
            Dead(
                id=_id_of(record, "dead"),
                **_about(record),
                usage=usage_of(record, time.time()),
                reason=death.reason[:MAX_REASON_CHARS],
                cause=death.cause.value,
            )
        )

    def ended(self, record: Record) -> None:
        """Tell that the workload of a kernel has ended, on request or for want of a client."""
        told = record.state.ended_by if record.state is not None else ""
        is_culled = told == CULLER and not record.requested_by
        kind = Culled if is_culled else Ended
        self._bus.publish(
            kind(
                id=shared_id(record.kernel_id, _launch_of(record), "ended"),
                **_about(record),
                by=record.requested_by or (told if told in ENDED_BY else ""),
                usage=usage_of(record, time.time()),
            )
        )


def usage_of(record: Record, now: float) -> Usage:
    """Return what a workload has used.

    An agent may say what it likes of its own kernel, but no more than the time allows.

    Args:
        record: the kernel.
        now: seconds since the epoch.
    """
    seconds = max(0.0, now - record.workload.created)
    told = record.state.usage if record.state is not None else None
    taken = record.workload.usage
    most = seconds * (taken.nano_cpus / NANO or MAX_CPUS)
    return Usage(
        seconds=_rounded(seconds),
        cpu_seconds=_rounded(min(told.cpu_seconds, most)) if told is not None else None,
        memory_peak_bytes=told.memory_peak_bytes if told is not None else None,
        gpus=taken.gpus,
    )


class _About(TypedDict):
    """What the events of a workload tell of it."""

    time: str
    owner: str
    kernel_id: str
    kernel_name: str
    launch: str


def _about(record: Record) -> _About:
    return {
        "time": _now(),
        "owner": record.workload.username,
        "kernel_id": record.kernel_id,
        "kernel_name": record.kernel_name[:MAX_NAME_CHARS],
        "launch": _launch_of(record),
    }


def _launch_of(record: Record) -> str:
    """Return what tells this workload from others of its kernel; the same for all replicas."""
    return record.workload.launch_id or f"{record.workload.created:.0f}"


def _id_of(record: Record, kind: str) -> str:
    """Return the id of an event that may happen once between two restarts."""
    restarts = record.state.restarts if record.state is not None else 0
    return shared_id(record.kernel_id, _launch_of(record), kind, str(restarts))


def _age(record: Record) -> float:
    return _rounded(max(0.0, time.time() - record.workload.created))


def _now() -> str:
    return format_time(time.time())


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
