"""Reports of deaths and automatic restarts to the operator."""

import logging

import pytest

from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.kernels.agents.state import AgentState, ExecutionState, ExitReason
from enterprise_gateway.services.kernels.registry import reporter as reporter_module
from enterprise_gateway.services.kernels.registry.events import KernelEvents
from enterprise_gateway.services.kernels.registry.exits import Cause, Death
from enterprise_gateway.services.kernels.registry.metrics import KernelMetrics
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.reporter import ExitReporter
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState

REASON = ExitReason("killed by SIGSEGV", signal="SIGSEGV")


class Kernel:
    """A claimed kernel, its agent's states, and what is reported of them."""

    def __init__(self, caplog: pytest.LogCaptureFixture, *, is_claimed: bool = True) -> None:
        self.metrics = KernelMetrics()
        self.reporter = ExitReporter(self.metrics, KernelEvents(EventBus()))
        workload = Workload("k", "ann-k", "ann", WorkloadState.RUNNING, 0.0)
        self.record = Record(None, workload, is_claimed=is_claimed)  # type: ignore[arg-type] # no engine is asked
        self.caplog = caplog
        caplog.set_level(logging.INFO)

    def tell(
        self, execution_state: str, reason: ExitReason | None = None, restarts: int = 0
    ) -> None:
        """Have its agent tell a state."""
        state = AgentState(
            "k",
            ExecutionState(execution_state),
            "2026-01-02T03:04:05.678901Z",
            reason=reason,
            restarts=restarts,
            claimed=False,
        )
        self.record.apply_state(state)
        self.reporter.report_state(self.record, state)

    @property
    def lines(self) -> list[str]:
        """The log since the last look."""
        lines = [record.getMessage() for record in self.caplog.records]
        self.caplog.clear()
        return lines

    def count(self, name: str, cause: Cause) -> float | None:
        """Return a counter."""
        return self.metrics.registry.get_sample_value(f"eg_kernel_{name}_total", {"reason": cause})


@pytest.fixture(autouse=True)
def no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports follow one another at once."""
    monkeypatch.setattr(reporter_module, "MIN_INTERVAL_SECONDS", 0.0)


async def test_each_death_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """The agent tells it in every state, and the engine tells it once more."""
    kernel = Kernel(caplog)
    kernel.tell("idle")
    kernel.tell("dead", REASON)
    kernel.tell("dead", REASON)
    kernel.reporter.report_death(kernel.record, Death("exit code 1", Cause.EXIT_CODE))
    assert kernel.lines == ["Kernel k died: killed by SIGSEGV"]
    assert kernel.count("deaths", Cause.SIGNAL) == 1
    kernel.tell("restarting", restarts=1)
    kernel.tell("dead", REASON, restarts=1)
    assert kernel.lines == ["Kernel k died: killed by SIGSEGV"]
    assert kernel.count("deaths", Cause.SIGNAL) == 2


async def test_notice_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often the agent tells it, and without its text, which has values of the client's."""
    kernel = Kernel(caplog)
    for _ in range(2):
        state = AgentState(
            "k", ExecutionState.IDLE, "2026-01-02T03:04:05.678901Z", notice="elsewhere " * 100
        )
        kernel.reporter.report_state(kernel.record, state)
    (line,) = kernel.lines
    assert line.startswith("Kernel k was not started in the folder that was asked for")
    assert "elsewhere" not in line


async def test_automatic_restart_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not those of before this replica followed the kernel, nor one that was requested."""
    kernel = Kernel(caplog)
    kernel.tell("idle", REASON, restarts=3)
    kernel.tell("idle", restarts=4)
    assert kernel.lines == []
    kernel.tell("restarting", REASON, restarts=5)
    kernel.tell("idle", REASON, restarts=5)
    assert kernel.lines == ["Kernel k was restarted by its agent: killed by SIGSEGV"]
    assert kernel.count("restarts", Cause.SIGNAL) == 1


async def test_kernel_that_no_client_knows_is_not_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A start that fails has a line of its own."""
    kernel = Kernel(caplog, is_claimed=False)
    kernel.tell("dead", REASON)
    assert kernel.lines == []


async def test_hostile_agent_cannot_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels do not die that often."""
    monkeypatch.setattr(reporter_module, "MIN_INTERVAL_SECONDS", 60.0)
    kernel = Kernel(caplog)
    for restarts in range(100):
        kernel.tell("restarting", REASON, restarts=restarts)
        kernel.tell("dead", REASON, restarts=restarts)
    assert len(kernel.lines) == 1
