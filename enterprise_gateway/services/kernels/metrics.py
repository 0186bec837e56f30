"""What is counted about kernels, for Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

from enterprise_gateway.errors import GatewayError

_START_BUCKETS_SECONDS = (0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120)


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
            "From the request until the kernel was ready.",
            ["kernel_name"],
            buckets=_START_BUCKETS_SECONDS,
            registry=self.registry,
        )

    @contextmanager
    def measure_start(self, kernel_name: str) -> Iterator[None]:
        """Count what happens in this context as one start."""
        begun = time.monotonic()
        try:
            yield
        except GatewayError as exc:
            self._failures.labels(kernel_name, type(exc).__name__).inc()
            raise
        self._starts.labels(kernel_name).inc()
        self._seconds.labels(kernel_name).observe(time.monotonic() - begun)
