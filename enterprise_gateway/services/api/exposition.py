"""The metrics page, in Prometheus' text format."""

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from enterprise_gateway.services.kernels.records import KernelModel


class _Kernels(Collector):
    def __init__(self, models: Iterable[KernelModel]) -> None:
        self._models = list(models)

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges of this moment."""
        states = Counter(model.execution_state for model in self._models)
        kernels = GaugeMetricFamily("eg_kernels", "Kernels, by state.", labels=["execution_state"])
        for state, count in sorted(states.items()):
            kernels.add_metric([state], count)
        yield kernels
        yield GaugeMetricFamily(
            "eg_kernel_connections",
            "WebSockets to kernels.",
            value=sum(model.connections for model in self._models),
        )


def render_metrics(counted: CollectorRegistry, models: Iterable[KernelModel]) -> bytes:
    """Return the page: what has been counted so far, and the kernels as they are."""
    present = CollectorRegistry()
    present.register(_Kernels(models))
    return generate_latest(present) + generate_latest(counted)
