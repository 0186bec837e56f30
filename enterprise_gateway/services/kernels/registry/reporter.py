"""Reports deaths, ends, automatic restarts and notices of kernels: log lines, metrics, events."""

import asyncio
import logging
import math
import weakref
from dataclasses import dataclass

from enterprise_gateway.services.kernels.agents.state import AgentState
from enterprise_gateway.services.kernels.registry.events import KernelEvents
from enterprise_gateway.services.kernels.registry.exits import (
    Death,
    Exit,
    death_cause,
    exit_cause,
)
from enterprise_gateway.services.kernels.registry.metrics import KernelMetrics
from enterprise_gateway.services.kernels.registry.records import Record

MIN_INTERVAL_SECONDS = 0.2
"""Kernels do not die more often than this; an agent that says so is hostile."""
MAX_REASON_CHARS = 500
"""How much of a reason a line of the log holds."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Reported:
    """The reports about one kernel."""

    restarts: int | None = None
    """How many restarts its agent had told of in its last state; None: there was none."""
    last: float = -math.inf
    """When a death or restart was last reported, by the event loop's clock."""
    is_notice_reported: bool = False
    is_death_reported: bool = False
    """Whether its present death was reported; a restart ends that."""
    unknown_death: Death | None = None
    """How it died before a client knew it."""


class ExitReporter:
    """Reports each death and each automatic restart once."""

    def __init__(self, metrics: KernelMetrics, events: KernelEvents) -> None:
        self._metrics = metrics
        self._events = events
        self._reported: weakref.WeakKeyDictionary[Record, _Reported] = weakref.WeakKeyDictionary()

    def report_state(self, record: Record, state: AgentState) -> None:
        """Report the death, automatic restart or notice that a new state document tells of."""
        reported = self._reported.setdefault(record, _Reported())
        before, reported.restarts = reported.restarts, state.restarts
        if state.notice and not reported.is_notice_reported:
            reported.is_notice_reported = True
            # its text names what the client has asked for, which is in no log
            _log.warning(
                "Kernel %s was not started in the folder that was asked for: notice in its model "
                "says why",
                record.kernel_id,
            )
        if not state.is_dead:
            reported.is_death_reported = False
        reason = state.reason
        if reason is None or not record.is_listed:
            return
        if state.is_dead:
            cause = death_cause(state, "", was_stopped=record.was_stopped)
            self.report_death(record, Death(reason.message, cause))
        elif before is not None and state.restarts > before and _may_report(reported):
            self._metrics.count_restart(exit_cause(reason))
            _log.warning(
                "Kernel %s was restarted by its agent: %s",
                record.kernel_id,
                reason.message[:MAX_REASON_CHARS],
            )
            self._events.restarted(record, "agent", reason.message)

    def report_end(self, record: Record, decision: Exit) -> None:
        """Report the exit of a kernel that no client asks about."""
        self._reported.setdefault(record, _Reported()).unknown_death = decision.death
        reason = decision.death.reason if decision.death is not None else "no client came"
        detail = "" if decision.is_known else f" before a client knew it: {reason}"
        _log.info("Kernel %s ended%s", record.kernel_id, detail)
        self._events.ended(record)

    def unknown_death(self, record: Record) -> Death | None:
        """Return how a kernel died that no client knew; None: it lives, or ended on request."""
        reported = self._reported.get(record)
        return reported.unknown_death if reported is not None else None

    def report_death(self, record: Record, death: Death) -> None:
        """Report a death, unless it was reported before."""
        reported = self._reported.setdefault(record, _Reported())
        if not reported.is_death_reported and _may_report(reported):
            reported.is_death_reported = True
            self._metrics.count_death(death.cause)
            _log.warning("Kernel %s died: %s", record.kernel_id, death.reason[:MAX_REASON_CHARS])
            self._events.dead(record, death)


def _may_report(reported: _Reported) -> bool:
    """Say whether an agent may fill the log with one more line: it is not trusted."""
    now = asyncio.get_running_loop().time()
    if now - reported.last < MIN_INTERVAL_SECONDS:
        return False
    reported.last = now
    return True
