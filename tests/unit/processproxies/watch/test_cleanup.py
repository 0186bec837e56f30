"""When services are removed."""

from dataclasses import replace
from typing import Any

import pytest

from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.services.processproxies.watch.cleanup import CleanupSchedule
from enterprise_gateway.settings import DelaySettings


def workload(state: WorkloadState, exit_reason: str = "") -> Workload:
    """Return a workload in a state."""
    return Workload("k", "ann-k", "ann", state, 0.0, exit_reason=exit_reason)


DELAYS = DelaySettings()
STARTING = workload(WorkloadState.STARTING)
RUNNING = workload(WorkloadState.RUNNING)
ENDED = workload(WorkloadState.DEAD, "exit code 0")
FAILED = workload(WorkloadState.DEAD, "exit code 1")
KILLED = replace(workload(WorkloadState.DEAD, "exit code 137 (killed)"), is_tombstone=True)


def see(schedule: CleanupSchedule, seen: Workload, now: float, **changes: Any) -> None:
    """Schedule a service by its state."""
    options = {"launch_timeout": 60.0, "is_kept": False, **changes}
    schedule.schedule("s1", seen, now, DELAYS, **options)


@pytest.mark.parametrize(
    ("seen", "delay"),
    [
        (ENDED, DELAYS.ended_service_seconds),
        (KILLED, DELAYS.tombstone_seconds),
        (FAILED, DELAYS.failed_service_seconds),
        (STARTING, 60.0 + DELAYS.launch_margin_seconds),
    ],
)
def test_ended_service_is_removed_after_its_delay(seen: Workload, delay: float) -> None:
    """Soon after an orderly end, later if replicas have to report the reason."""
    schedule = CleanupSchedule()
    see(schedule, seen, 100.0)
    see(schedule, seen, 101.0)
    assert schedule.next_due() == 100.0 + delay
    assert schedule.due(100.0 + delay - 0.1) == []
    assert schedule.due(100.0 + delay) == ["s1"]


def test_running_service_is_never_removed() -> None:
    """Not even one that started late."""
    schedule = CleanupSchedule()
    see(schedule, STARTING, 100.0)
    see(schedule, RUNNING, 101.0)
    assert schedule.next_due() is None
    see(schedule, KILLED, 200.0)
    assert schedule.next_due() == 200.0 + DELAYS.tombstone_seconds


def test_kept_service_is_not_removed() -> None:
    """Unless it never started."""
    schedule = CleanupSchedule()
    see(schedule, STARTING, 100.0, is_kept=True)
    assert schedule.next_due() is not None
    see(schedule, KILLED, 101.0, is_kept=True)
    assert schedule.next_due() is None


def test_service_that_could_not_be_removed_is_tried_again() -> None:
    """The engine may be away."""
    schedule = CleanupSchedule()
    see(schedule, ENDED, 100.0)
    schedule.postpone("s1", 110.0)
    assert schedule.due(109.0) == []
    assert schedule.due(110.0) == ["s1"]
    schedule.forget("s1")
    schedule.postpone("s1", 111.0)
    assert schedule.due(200.0) == []
