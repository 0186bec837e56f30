"""What a workload has used, by the engine's word and its agent's."""

from types import SimpleNamespace
from typing import Any

from enterprise_gateway.services.kernels.registry.events import usage_of
from enterprise_gateway.services.processproxies.resources import Usage as Limits


def record(limits: Limits, cpu_seconds: float) -> Any:
    """Return the record of a kernel that was created at 100, and whose agent tells this."""
    told = SimpleNamespace(cpu_seconds=cpu_seconds, memory_peak_bytes=7)
    return SimpleNamespace(
        workload=SimpleNamespace(created=100.0, usage=limits),
        state=SimpleNamespace(usage=told),
    )


def test_limits_of_the_workload_bound_what_its_agent_tells() -> None:
    """They are in labels, which every replica sees: all tell the same."""
    used = usage_of(record(Limits(nano_cpus=1_500_000_000, gpus=2), 1e9), 110.0)
    assert (used.seconds, used.cpu_seconds, used.gpus) == (10.0, 15.0, 2)


def test_agent_is_believed_within_them() -> None:
    """Of CPU time and memory only it knows."""
    used = usage_of(record(Limits(nano_cpus=1_500_000_000), 3.0), 110.0)
    assert (used.cpu_seconds, used.memory_peak_bytes, used.gpus) == (3.0, 7, 0)
