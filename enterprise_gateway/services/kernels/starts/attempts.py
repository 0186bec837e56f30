"""Attempts to start a kernel, and the reports of their outcomes to the operator."""

import contextlib
import logging
import time
from asyncio import CancelledError
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from enterprise_gateway.errors import LaunchTimeoutError
from enterprise_gateway.services.kernels.registry.metrics import KernelMetrics

MAX_CAUSE_CHARS = 2000

_log = logging.getLogger(__name__)


class Step(StrEnum):
    """The steps of a start, in the words of the log."""

    REQUEST = "its request was checked"
    QUEUE = "it waited for its turn"
    LAUNCH = "it was launched"
    LIMITS = "the limits were checked"


@dataclass(slots=True)
class Attempt:
    """One attempt to start a kernel."""

    kernel_id: str = "of no id yet"
    kernel_name: str = ""
    """The kernelspec's name; "" until it is known to exist."""
    username: str = ""
    step: Step = Step.REQUEST
    begun: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    """How many seconds it waited in the launch queue."""

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.begun

    def begin_launch(self) -> None:
        """Record that it has left the launch queue."""
        self.waited = self.seconds
        self.step = Step.LAUNCH


@contextlib.contextmanager
def report_outcome(attempt: Attempt, metrics: KernelMetrics) -> Iterator[None]:
    """Count an attempt by how this context ends, and log in one line why it failed."""
    try:
        yield
    except BaseException as exc:
        is_given_up = isinstance(exc, CancelledError | ConnectionError)
        error = "ClientLeft" if is_given_up else type(exc).__name__
        cause = "its client left" if is_given_up else " ".join(str(exc).split()) or error
        metrics.count_failure(attempt.kernel_name, error)
        _log.warning(
            "Kernel %s (%s) of user %s did not start: failed after %.1f s, while %s: %s",
            attempt.kernel_id,
            attempt.kernel_name or "no kernelspec yet",
            attempt.username or "unknown",
            attempt.seconds,
            attempt.step,
            cause[:MAX_CAUSE_CHARS],
        )
        raise
    metrics.count_start(attempt.kernel_name, attempt.seconds)
    _log.info("Kernel %s (%s) started", attempt.kernel_id, attempt.kernel_name)


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
