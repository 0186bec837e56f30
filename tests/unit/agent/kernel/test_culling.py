"""When an idle kernel goes."""

import pytest

from kernel_agent.kernel.culling import Usage, decide_culling, next_check
from kernel_agent.settings import (
    CullingSettings,
)


@pytest.mark.parametrize(
    ("usage", "changes", "expected"),
    [
        (Usage(0.0, is_busy=False, connections=0), {}, True),
        (Usage(0.1, is_busy=False, connections=0), {}, False),
        (Usage(0.0, is_busy=True, connections=0), {}, False),
        (Usage(0.0, is_busy=True, connections=0), {"cull_busy": True}, True),
        (Usage(0.0, is_busy=False, connections=1), {}, False),
        (Usage(0.0, is_busy=False, connections=1), {"cull_connected": True}, True),
        (Usage(0.0, is_busy=False, connections=0), {"cull_idle_timeout": 0.0}, False),
    ],
)
def test_culling_decision(usage: Usage, changes: dict[str, float], *, expected: bool) -> None:
    """Idle long enough, and neither work nor a connection in the way unless that is allowed."""
    settings = CullingSettings(cull_idle_timeout=10.0)._replace(**changes)
    assert bool(decide_culling(10.0, usage, settings)) is expected


@pytest.mark.parametrize(
    ("gpus_idle_since", "changes", "expected"),
    [
        (5.0, {}, "its GPUs were idle for 5 s"),
        (5.1, {}, ""),
        (None, {}, ""),
        (5.0, {"cull_gpu_idle_timeout": 0.0}, ""),
        (5.0, {"cull_busy": False}, ""),
        (5.0, {"cull_connected": False}, ""),
        (5.0, {"cull_idle_timeout": 9.0}, "it was idle for 9 s"),
    ],
)
def test_kernel_whose_gpus_are_idle_is_culled(
    gpus_idle_since: float | None, changes: dict[str, float], expected: str
) -> None:
    """By a time of their own, and under the same conditions."""
    usage = Usage(1.0, is_busy=True, connections=1, gpus_idle_since=gpus_idle_since)
    settings = CullingSettings(
        cull_gpu_idle_timeout=5.0, cull_busy=True, cull_connected=True
    )._replace(**changes)
    assert decide_culling(10.0, usage, settings) == expected


def test_culling_is_checked_when_due_and_at_most_an_interval_late() -> None:
    """The next check is at the deadline if that is nearer than the interval."""
    settings = CullingSettings(cull_idle_timeout=10.0, cull_interval=3.0)
    idle = Usage(0.0, is_busy=False, connections=0)
    assert next_check(9.0, idle, settings) == 1.0
    assert next_check(1.0, idle, settings) == 3.0
    assert next_check(20.0, idle, settings) == 3.0
    assert next_check(20.0, idle, settings._replace(cull_interval=0.0)) == 0.1
    assert next_check(0.0, idle, settings._replace(cull_idle_timeout=0.0)) is None
    by_gpus = settings._replace(cull_gpu_idle_timeout=4.0)
    assert next_check(1.0, idle._replace(gpus_idle_since=0.5), by_gpus) == 3.0
    assert next_check(3.0, idle._replace(gpus_idle_since=0.5), by_gpus) == 1.5
    assert next_check(3.0, idle, by_gpus._replace(cull_idle_timeout=0.0)) == 3.0
