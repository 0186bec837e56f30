"""Metrics about kernels, for Prometheus."""

from collections.abc import Callable
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from enterprise_gateway.services.kernels.registry.exits import Cause
from enterprise_gateway.services.processproxies.steps import StartTimes

_START_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120)
_STEP_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Source(StrEnum):
    """Where a start had its kernel from."""

    LAUNCH = "launch"
    POOL = "pool"


class KernelMetrics:
    """Counters and durations; `registry` holds them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._starts = Counter(
            "eg_kernel_starts",
            "Kernels that became ready.",
            ["kernel_name"],
            registry=self.registry,
        )
        self._failures = Counter(
            "eg_kernel_start_failures",
            "Kernel starts that failed, by the class of the error.",
            ["kernel_name", "error"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "eg_kernel_start_seconds",
            "From the request until the kernel was ready, with the wait for its turn.",
            ["kernel_name", "source"],
            buckets=_START_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self._steps = Histogram(
            "eg_kernel_start_step_seconds",
            "How long each step took of the starts that succeeded.",
            ["step"],
            buckets=_STEP_BUCKETS_SECONDS,
            registry=self.registry,
        )

        self._deaths = Counter(
            "eg_kernel_deaths",
            "Kernels that died.",
            ["reason"],
            registry=self.registry,
        )
        self._restarts = Counter(
            "eg_kernel_restarts",
            "Kernels that died and were restarted by their agents.",
            ["reason"],
            registry=self.registry,
        )

        for counter in (self._deaths, self._restarts):
            for cause in Cause:  # so that each is 0, and not absent, before it is first counted
                counter.labels(cause)

    def watch_launches(self, in_progress: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Export how many launches there are, counted each time that the metrics are read."""
        for name, text, count in (
            ("in_progress", "Launches under way.", in_progress),
            ("waiting", "Launches of users that wait for their turn.", waiting),
        ):
            gauge = Gauge(f"eg_launches_{name}", text, registry=self.registry)
            gauge.set_function(count)

    def count_death(self, reason: Cause) -> None:
        """Count a kernel that died."""
        self._deaths.labels(reason).inc()

    def count_restart(self, reason: Cause) -> None:
        """Count a kernel that died and was restarted by its agent."""
        self._restarts.labels(reason).inc()

    def count_start(self, kernel_name: str, source: Source, start: StartTimes) -> None:
        """Count a kernel that became ready."""
        self._starts.labels(kernel_name).inc()
        self._seconds.labels(kernel_name, source).observe(start.seconds)
        for step, seconds in start.steps.items():
            self._steps.labels(step).observe(seconds)

    def count_failure(self, kernel_name: str, error: str) -> None:
        """Count a start that failed; `kernel_name` is "" if there is no such kernelspec."""
        self._failures.labels(kernel_name, error).inc()
