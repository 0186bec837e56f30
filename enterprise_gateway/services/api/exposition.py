"""The metrics page, in Prometheus' text format."""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Info, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from enterprise_gateway._version import __version__
from enterprise_gateway.services.kernels.agents.state import ExecutionState
from enterprise_gateway.services.kernels.registry.models import KernelModel


class _Present(Collector):
    def __init__(self, models: list[KernelModel] | None, engines: Mapping[str, bool]) -> None:
        self._models = models
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        """Yield the current gauges."""
        if self._models is not None:
            yield from self._collect_kernels(self._models)
        reachable = GaugeMetricFamily(
            "eg_engine_reachable",
            "Whether the engine of a process proxy answers, if there is one.",
            labels=["proxy"],
        )
        for proxy, answers in sorted(self._engines.items()):
            reachable.add_metric([proxy], float(answers))
        yield reachable

    def _collect_kernels(self, models: list[KernelModel]) -> Iterator[Metric]:
        states = Counter(dict.fromkeys(ExecutionState, 0))
        states.update(model.execution_state for model in models)
        kernels = GaugeMetricFamily("eg_kernels", "Kernels, by state.", labels=["execution_state"])
        for state, count in sorted(states.items()):
            kernels.add_metric([state], count)
        yield kernels
        yield GaugeMetricFamily(
            "eg_kernel_connections",
            "WebSockets to kernels.",
            value=sum(model.connections for model in models),
        )


def render_metrics(
    counted: CollectorRegistry, models: list[KernelModel] | None, engines: Mapping[str, bool]
) -> bytes:
    """Return the metrics page: the counters, and gauges of kernels and engines.

    Args:
        counted: the registry of the counters.
        models: the kernels; None while they are not known yet.
        engines: whether the engine of each process proxy answers.
    """
    present = CollectorRegistry()
    present.register(_Present(models, engines))
    build = Info("eg_build", "Which gateway this is.", registry=present)
    build.info({"version": __version__, "python": platform.python_version()})
    ProcessCollector(registry=present)
    return generate_latest(present) + generate_latest(counted)
