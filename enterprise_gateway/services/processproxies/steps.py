"""The steps of a kernel's start, and how long each took."""

import math
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
StepName = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,32}\Z")]


class Step(StrEnum):
    """The steps, in their order. A start has those that its kind of workload needs.

    docs/rest-interface.md says what each is, by these names.
    """

    ADMISSION = "admission"
    POOL = "pool"
    PULL = "pull"
    QUEUE = "queue"
    PREPARE = "prepare"
    CREATE = "create"
    START = "start"
    BOOT = "boot"
    """The workload runs, and nothing in it has reported yet.

    With the report of an agent in it this becomes `AGENT` and `KERNEL`.
    """
    SIDECAR = "sidecar"
    AGENT = "agent"
    KERNEL = "kernel"
    REPORT = "report"
    CHECK = "check"


AGENT_STEPS = (Step.AGENT, Step.KERNEL, Step.REPORT)
"""Those that the agent measures, by its own clock."""
_ORDER = {step: index for index, step in enumerate(Step)}


class StartTimes(msgspec.Struct, frozen=True):
    """How long a start took, in all and by step. An agent may have told it, so it is checked."""

    seconds: Seconds
    steps: Annotated[dict[StepName, Seconds], msgspec.Meta(max_length=32)]

    def __str__(self) -> str:
        """Return it for the log: "1.24 s: admission 0.00, create 0.11, …"."""
        steps = ", ".join(f"{step} {seconds:.2f}" for step, seconds in self.steps.items())
        return f"{self.seconds:.2f} s: {steps}"


class StepRecorder:
    """Measures the steps of one start: each ends when a later one begins.

    Attributes:
        step: the present one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin the first step."""
        self._clock = clock
        self._begun = [(Step.ADMISSION, clock())]
        self._ended: float | None = None

    @property
    def step(self) -> Step:
        """The present step."""
        return self._begun[-1][0]

    def begun(self, step: Step) -> float:
        """Return when a step began, by the clock; infinity: it has not."""
        return next((begun for each, begun in self._begun if each is step), math.inf)

    def begin(self, step: Step) -> None:
        """Begin a step, unless it or a later one has begun.

        An engine may tell of a workload more than once, and after the workload has reported.
        """
        if _ORDER[step] > _ORDER[self.step]:
            self._begun.append((step, self._clock()))

    def insert(self, steps: Mapping[str, float]) -> None:
        """Insert the steps that an agent has measured, of which the last one ends now.

        Its clock is not compared with the one here: only durations are used.
        """
        told = {step: steps[step] for step in AGENT_STEPS if step in steps}
        if not told or _ORDER[self.step] > _ORDER[Step.AGENT]:
            return
        if self.step is Step.BOOT:
            self._begun.pop()
        now = self._clock()
        begun = now - sum(told.values())
        for step, seconds in told.items():
            self._begun.append((step, min(max(begun, self._begun[-1][1]), now)))
            begun += seconds

    def end(self) -> StartTimes:
        """End the last step, and return how long each took."""
        self._ended = self._clock()
        return self.times()

    def times(self) -> StartTimes:
        """Return how long each step has taken, the present one up to now."""
        end = self._clock() if self._ended is None else self._ended
        ends = [begun for _, begun in self._begun[1:]] + [end]
        steps = {
            str(step): round(end - begun, 3)
            for (step, begun), end in zip(self._begun, ends, strict=True)
        }
        return StartTimes(round(ends[-1] - self._begun[0][1], 3), steps)
