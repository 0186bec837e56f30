"""Metrics about pools, for Prometheus."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

TAKEN, NEW_PROCESS, NONE_READY, UNFIT = "taken", "new_process", "none_ready", "unfit"
"""What became of a start of a kernelspec with a pool.

New process: a kernel was taken, and its process replaced. Unfit: another container is needed.
"""


class Level(NamedTuple):
    """How full a pool is."""

    size: int
    """How many kernels should be ready."""
    ready: int
    is_given_up: bool


class PoolMetrics(Collector):
    """How full the pools are, and how many starts they served."""

    def __init__(
        self, registry: CollectorRegistry, levels: Callable[[], Mapping[str, Level]]
    ) -> None:
        """Register.

        Args:
            registry: of the service.
            levels: returns how full the pools are, by kernelspec.
        """
        self._levels = levels
        self._starts = Counter(
            "eg_pool_starts",
            "Starts of kernelspecs that have a pool, by what became of them there.",
            ["kernel_name", "outcome"],
            registry=registry,
        )
        self._failures = Counter(
            "eg_pool_launch_failures",
            "Launches for pools that failed, by the class of the error.",
            ["kernel_name", "error"],
            registry=registry,
        )
        registry.register(self)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return how full the pools are."""
        size, ready, given_up = (
            GaugeMetricFamily(f"eg_pool_{name}", text, labels=["kernel_name"])
            for name, text in (
                ("size", "Kernels to keep ready."),
                ("ready", "Kernels that are."),
                ("given_up", "1 if so many launches failed that no more are tried."),
            )
        )
        for name, level in self._levels().items():
            size.add_metric([name], level.size)
            ready.add_metric([name], level.ready)
            given_up.add_metric([name], level.is_given_up)
        return [size, ready, given_up]

    def count(self, kernel_name: str, outcome: str) -> None:
        """Count a start."""
        self._starts.labels(kernel_name, outcome).inc()

    def count_failure(self, kernel_name: str, error: str) -> None:
        """Count a launch that failed."""
        self._failures.labels(kernel_name, error).inc()
