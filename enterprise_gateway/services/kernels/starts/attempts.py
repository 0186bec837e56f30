"""Attempts to start a kernel, and the reports of their outcomes to the operator."""

import contextlib
import logging
from asyncio import CancelledError
from collections.abc import Iterator
from dataclasses import dataclass, field

from enterprise_gateway.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    LaunchTimeoutError,
    NotFoundError,
)
from enterprise_gateway.services.kernels.registry.events import KernelEvents
from enterprise_gateway.services.kernels.registry.metrics import KernelMetrics, Source
from enterprise_gateway.services.processproxies.steps import Step, StepRecorder

MAX_CAUSE_CHARS = 2000
_REFUSALS = (InvalidRequestError, ForbiddenError, NotFoundError, ConflictError)
"""Errors after which nothing was launched, or not for long."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Attempt:
    """One attempt to start a kernel."""

    kernel_id: str = ""
    """"" until it has one."""
    kernel_name: str = ""
    """The kernelspec's name; "" until it is known to exist."""
    username: str = ""
    source: Source = Source.LAUNCH
    """Where its kernel came from."""
    steps: StepRecorder = field(default_factory=StepRecorder)

    @property
    def waited(self) -> float:
        """How many seconds it waited in the launch queue."""
        return self.steps.times().steps.get(Step.QUEUE, 0.0)


@contextlib.contextmanager
def report_outcome(
    attempt: Attempt, metrics: KernelMetrics, events: KernelEvents
) -> Iterator[None]:
    """Count an attempt by how this context ends; log in one line, and tell, why it failed."""
    try:
        yield
    except BaseException as exc:
        is_given_up = isinstance(exc, CancelledError | ConnectionError)
        error = "ClientLeft" if is_given_up else type(exc).__name__
        cause = "its client left" if is_given_up else " ".join(str(exc).split()) or error
        metrics.count_failure(attempt.kernel_name, error)
        events.not_started(
            attempt.kernel_id,
            attempt.kernel_name,
            attempt.username,
            error=error,
            reason=cause,
            is_refusal=isinstance(exc, _REFUSALS),
        )
        _log.warning(
            "Kernel %s (%s) of user %s did not start: it failed in step %s after %s: %s",
            attempt.kernel_id or "of no id yet",
            attempt.kernel_name or "no kernelspec yet",
            attempt.username or "unknown",
            attempt.steps.step,
            attempt.steps.times(),
            cause[:MAX_CAUSE_CHARS],
        )
        raise
    start = attempt.steps.times()
    metrics.count_start(attempt.kernel_name, attempt.source, start)
    _log.info("Kernel %s (%s) started in %s", attempt.kernel_id, attempt.kernel_name, start)


@contextlib.contextmanager
def explain_wait(attempt: Attempt) -> Iterator[None]:
    """Add to the error of a launch that took too long how long it had waited in the queue."""
    try:
        yield
    except LaunchTimeoutError as exc:
        if attempt.waited < 1:
            raise
        raise LaunchTimeoutError(
            f"{exc} Before that it had waited {attempt.waited:.0f} s for its turn, since "
            "EG_MAX_CONCURRENT_LAUNCHES other kernels were being launched."
        ) from exc
