"""How long the steps of a start took."""

import itertools

import pytest

from enterprise_gateway.services.processproxies.steps import Step, StepRecorder


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def steps(clock: Clock) -> StepRecorder:
    """A start that was admitted in 0.5 s, waited for 2 s, and whose container runs after 1.5 s."""
    steps = StepRecorder(lambda: clock.now)
    for step, seconds in (
        (Step.QUEUE, 0.5),
        (Step.PREPARE, 2.0),
        (Step.CREATE, 0.25),
        (Step.START, 0.25),
        (Step.BOOT, 1.0),
    ):
        clock.now += seconds
        steps.begin(step)
    return steps


def test_each_step_ends_when_the_next_begins(clock: Clock, steps: StepRecorder) -> None:
    """Nothing of the start is missing, so the steps add up to all of it."""
    clock.now += 3.0
    start = steps.times()
    assert start.steps == {
        "admission": 0.5,
        "queue": 2.0,
        "prepare": 0.25,
        "create": 0.25,
        "start": 1.0,
        "boot": 3.0,
    }
    assert start.seconds == sum(start.steps.values()) == 7.0


def test_late_news_begins_no_step(clock: Clock, steps: StepRecorder) -> None:
    """An engine may tell again that a container was created, or after its report that it runs."""
    clock.now += 3.0
    steps.begin(Step.START)
    steps.begin(Step.CHECK)
    clock.now += 1.0
    steps.begin(Step.BOOT)
    assert steps.step is Step.CHECK
    assert steps.times().steps["check"] == 1.0


def test_agents_steps_end_now(clock: Clock, steps: StepRecorder) -> None:
    """They go back into the time in which the engine had not told yet that the container runs."""
    clock.now += 2.0
    steps.insert({"agent": 0.5, "kernel": 1.75, "report": 0.25})
    steps.begin(Step.CHECK)
    took = steps.end().steps
    assert list(itertools.islice(took, 3, None)) == [
        "create",
        "start",
        "agent",
        "kernel",
        "report",
        "check",
    ]
    assert took["start"] == 0.5
    assert (took["agent"], took["kernel"], took["report"]) == (0.5, 1.75, 0.25)


def test_kernel_that_failed_is_the_present_step(clock: Clock, steps: StepRecorder) -> None:
    """Its agent has measured no more."""
    clock.now += 2.0
    steps.insert({"agent": 0.5, "kernel": 1.5})
    assert steps.step is Step.KERNEL


def test_agent_of_a_sidecar_comes_after_the_launcher(clock: Clock, steps: StepRecorder) -> None:
    """What has booted before was the launcher and its kernel."""
    clock.now += 2.0
    steps.begin(Step.SIDECAR)
    clock.now += 1.0
    steps.insert({"agent": 0.25, "kernel": 0.25, "report": 0.0})
    took = steps.times().steps
    assert (took["boot"], took["sidecar"], took["agent"]) == (2.0, 0.5, 0.25)


@pytest.mark.parametrize(
    "told",
    [
        {"agent": 1e6, "kernel": 1e6, "report": 1e6},
        {"report": 1e6},
        {"queue": 5.0, "check": 5.0, "owned": 5.0},
        {},
    ],
)
def test_agent_that_lies_changes_its_own_steps_only(
    clock: Clock, steps: StepRecorder, told: dict[str, float]
) -> None:
    """No duration is negative, and the sum stays what the gateway has measured."""
    clock.now += 2.0
    steps.insert(told)
    steps.insert({"agent": 0.1})
    steps.begin(Step.CHECK)
    start = steps.end()
    assert start.seconds == pytest.approx(sum(start.steps.values()))
    assert min(start.steps.values()) >= 0
    assert set(start.steps) <= set(Step)
    assert start.steps["queue"] == 2.0


def test_line_of_the_log_has_the_sum_first(clock: Clock, steps: StepRecorder) -> None:
    """In seconds, in the order in which the steps came."""
    clock.now += 0.126
    assert str(steps.times()) == (
        "4.13 s: admission 0.50, queue 2.00, prepare 0.25, create 0.25, start 1.00, boot 0.13"
    )
