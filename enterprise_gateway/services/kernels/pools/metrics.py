"""Metrics about pools, for Prometheus."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

TAKEN, NEW_PROCESS, NONE_READY, UNFIT = "taken", "new_process", "none_ready", "unfit"
"""What became of a start of a kernelspec with a pool.

New process: a kernel was taken, and its process replaced. Unfit: another container is needed.
"""


class PoolMetrics(Collector):
    """How full the pools are, and how many starts they served."""

    def __init__(
        self, registry: CollectorRegistry, sizes: Callable[[], Mapping[str, tuple[int, int]]]
    ) -> None:
        """Register.

        Args:
            registry: of the service.
            sizes: returns, by kernelspec, how many kernels should be ready, and how many are.
        """
        self._sizes = sizes
        self._starts = Counter(
            "eg_pool_starts",
            "Starts of kernelspecs that have a pool, by what became of them there.",
            ["kernel_name", "outcome"],
            registry=registry,
        )
        registry.register(self)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the sizes of the pools."""
        size = GaugeMetricFamily("eg_pool_size", "Kernels to keep ready.", labels=["kernel_name"])
        ready = GaugeMetricFamily("eg_pool_ready", "Kernels that are.", labels=["kernel_name"])
        for name, (wanted, there) in self._sizes().items():
            size.add_metric([name], wanted)
            ready.add_metric([name], there)
        return [size, ready]

    def count(self, kernel_name: str, outcome: str) -> None:
        """Count a start."""
        self._starts.labels(kernel_name, outcome).inc()
