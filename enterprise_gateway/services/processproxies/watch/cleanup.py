"""When services are removed that have ended or do not start. No I/O, no clock.

Every replica removes them; removing one twice does no harm. Times are seconds of any steady clock.
"""

from dataclasses import dataclass

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    Workload,
    WorkloadState,
)
from enterprise_gateway.settings import DelaySettings


@dataclass(frozen=True, slots=True)
class _Deadline:
    cause: tuple[WorkloadState, str, bool, bool]
    due: float


class CleanupSchedule:
    """Keeps a deadline for each service that is to be removed."""

    def __init__(self) -> None:
        self._deadlines: dict[str, _Deadline] = {}

    def schedule(
        self,
        service_id: str,
        workload: Workload,
        now: float,
        delays: DelaySettings,
        *,
        launch_timeout: float,
        is_kept: bool,
        is_unpaired: bool = False,
    ) -> None:
        """Set or clear a service's deadline according to its state; the same state keeps it.

        Args:
            service_id: of a kernel or a sidecar.
            workload: the service's; once it has ended, that of the kernel and its sidecar together.
            now: the time.
            delays: how long services in each state stay.
            launch_timeout: how many seconds the service may take to run.
            is_kept: whether it stays when it has ended.
            is_unpaired: whether it runs although its other half has ended.
        """
        cause = (workload.state, workload.exit_reason, workload.is_tombstone, is_unpaired)
        known = self._deadlines.get(service_id)
        if known is not None and known.cause == cause:
            return
        if is_unpaired:
            delay = delays.unpaired_grace_seconds
        elif workload.state is WorkloadState.STARTING:
            delay = launch_timeout + delays.launch_margin_seconds
        elif workload.state is WorkloadState.RUNNING or is_kept:
            self.forget(service_id)
            return
        elif workload.exit_reason == ORDERLY_EXIT:
            delay = delays.ended_service_seconds
        elif workload.is_tombstone:
            delay = delays.tombstone_seconds
        else:
            delay = delays.failed_service_seconds
        self._deadlines[service_id] = _Deadline(cause, now + delay)

    def forget(self, service_id: str) -> None:
        """Clear a service's deadline."""
        self._deadlines.pop(service_id, None)

    def postpone(self, service_id: str, until: float) -> None:
        """Move the deadline of a service that could not be removed."""
        known = self._deadlines.get(service_id)
        if known is not None:
            self._deadlines[service_id] = _Deadline(known.cause, until)

    def due(self, now: float) -> list[str]:
        """Return the ids of the services to remove now."""
        return [each for each, deadline in self._deadlines.items() if deadline.due <= now]

    def next_due(self) -> float | None:
        """Return the earliest deadline, None if there is none."""
        return min((each.due for each in self._deadlines.values()), default=None)
