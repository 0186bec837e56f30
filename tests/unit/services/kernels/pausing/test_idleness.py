"""Which kernels may be paused, and until when."""

import math
from typing import Any

import msgspec
import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.kernels.agents.state import (
    AgentState,
    ExecutionState,
    OpenRequest,
    format_time,
)
from enterprise_gateway.services.kernels.pausing.idleness import end_of, is_idle
from enterprise_gateway.services.kernels.planning.culling import IdleTimes, effective_idle_times
from enterprise_gateway.settings import AgeSettings, CullingSettings, KernelSettings
from enterprise_gateway.settings.values.times import Times

ACTIVE = 1_800_000_000.0
CREATED = ACTIVE - 5000
IDLE = AgentState("k", ExecutionState.IDLE, format_time(ACTIVE), websockets=0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"websockets": 1}, False),
        ({"streams": 1}, False),
        ({"websockets": None}, False),
        ({"requests": (OpenRequest("control", {}),)}, False),
        ({"claimed": False}, False),
        ({"pooled": True}, False),
        *(
            ({"execution_state": state}, False)
            for state in ExecutionState
            if state is not ExecutionState.IDLE
        ),
    ],
)
def test_kernel_that_anything_uses_is_not_idle(change: dict[str, Any], *, expected: bool) -> None:
    """A client, even a silent one, a request without a reply, a kernel that waits for its user."""
    assert is_idle(msgspec.structs.replace(IDLE, **change)) is expected


@pytest.mark.parametrize(
    ("times", "end"),
    [
        (IdleTimes(), math.inf),
        (IdleTimes(cull_idle_timeout=-1, max_kernel_age=-1), math.inf),
        (IdleTimes(cull_idle_timeout=60), ACTIVE + 60),
        (IdleTimes(max_kernel_age=5030), CREATED + 5030),
        (IdleTimes(cull_idle_timeout=60, max_kernel_age=5030), CREATED + 5030),
        (IdleTimes(cull_idle_timeout=60, max_kernel_age=9000), ACTIVE + 60),
    ],
)
def test_kernel_ends_at_the_earlier_of_its_times(times: IdleTimes, end: float) -> None:
    """When it would be culled, or at its longest age; the time that it is paused counts."""
    assert end_of(IDLE, CREATED, times) == end


def test_kernelspec_has_idle_times_of_its_own() -> None:
    """Its keys go before the settings, each by itself."""
    settings = KernelSettings(
        pause_idle_timeout=10,
        culling=CullingSettings(cull_idle_timeout=20),
        age=AgeSettings(max_kernel_age=30),
    )
    assert effective_idle_times(settings, {}, Times()) == IdleTimes(10, 20, 30)
    metadata = {"pause_idle_timeout": 0, "max_kernel_age": 5, "other": "x"}
    assert effective_idle_times(settings, metadata, Times()) == IdleTimes(0, 20, 5)
    times = Times(pause_idle_timeout=7, cull_idle_timeout=0)
    assert effective_idle_times(settings, metadata, times) == IdleTimes(7, 0, 5)


@pytest.mark.parametrize("value", ["60", -1, 1.5])
def test_faulty_timeout_of_a_kernelspec_is_told(value: object) -> None:
    """With its name."""
    with pytest.raises(ConfigurationError, match="pause_idle_timeout"):
        effective_idle_times(KernelSettings(), {"pause_idle_timeout": value}, Times())
