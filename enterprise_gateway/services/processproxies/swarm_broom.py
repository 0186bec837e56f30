"""When which service is to be swept away. No I/O, no clock.

Every gateway process sweeps; removing twice is fine. Times are seconds by any steady clock.
"""

from dataclasses import dataclass

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.couples import PARTING_DELAY

ORDERLY_DELAY = 2.0
"""Seconds that the service of a kernel which ended as it should stays: whoever is just launching it
may want to read what it printed.
"""
FAILURE_DELAY = 30.0
"""Seconds that the service of a kernel which was never ready stays, likewise."""
DEATH_DELAY = 300.0
"""Seconds that the service of any other dead kernel stays, its tombstone. As long as it does, every
gateway process says that the kernel is dead, and why.
"""
LAUNCH_MARGIN = 5.0
"""Seconds that whoever launches has to give up by itself, with better words."""


@dataclass(frozen=True, slots=True)
class _Appointment:
    occasion: tuple[WorkloadState, str, bool, bool]
    due: float


class SwarmBroom:
    """Keeps the appointments with services that have ended, or do not come to run."""

    def __init__(self) -> None:
        self._appointments: dict[str, _Appointment] = {}

    def note(
        self,
        service_id: str,
        workload: Workload,
        now: float,
        *,
        launch_timeout: float,
        is_kept: bool,
        is_left: bool = False,
    ) -> None:
        """Take note of the state of a service; the same twice changes nothing.

        Args:
            service_id: of a kernel, or a companion.
            workload: as it is; if it has ended, what the two are as one.
            now: the time.
            launch_timeout: seconds that it may take to run.
            is_kept: whether it is to stay when it has ended.
            is_left: whether it runs though its other half has ended.
        """
        occasion = (workload.state, workload.exit_reason, workload.is_tombstone, is_left)
        known = self._appointments.get(service_id)
        if known is not None and known.occasion == occasion:
            return
        if is_left:
            delay = PARTING_DELAY
        elif workload.state is WorkloadState.STARTING:
            delay = launch_timeout + LAUNCH_MARGIN
        elif workload.state is WorkloadState.RUNNING or is_kept:
            self.forget(service_id)
            return
        elif workload.exit_reason == ORDERLY_EXIT:
            delay = ORDERLY_DELAY
        else:
            delay = DEATH_DELAY if workload.is_tombstone else FAILURE_DELAY
        self._appointments[service_id] = _Appointment(occasion, now + delay)

    def forget(self, service_id: str) -> None:
        """Let a service be."""
        self._appointments.pop(service_id, None)

    def postpone(self, service_id: str, until: float) -> None:
        """Come back later for a service that could not be removed."""
        known = self._appointments.get(service_id)
        if known is not None:
            self._appointments[service_id] = _Appointment(known.occasion, until)

    def due(self, now: float) -> list[str]:
        """Return the ids of the services to remove now."""
        return [each for each, appointment in self._appointments.items() if appointment.due <= now]

    def next_due(self) -> float | None:
        """Return when there will be something to do."""
        return min((each.due for each in self._appointments.values()), default=None)
