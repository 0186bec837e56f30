"""Jobs at the same time: which start, what is kept of them, and their end."""

import os
import sys
import time

import pytest

from devtools.schedule import Job, Outcome, find_startable, run_jobs

ENV = dict(os.environ)


def job(name: str, code: str = "", *, after: tuple[str, ...] = (), takes_slot: bool = True) -> Job:
    """Return a job that runs Python code."""
    return Job(name, [sys.executable, "-c", code], after, takes_slot)


def test_jobs_start_in_order_while_slots_are_free() -> None:
    """One that waits for another lets the next pass; a job without a slot always starts."""
    light = job("light", takes_slot=False)
    first, second, third = job("first"), job("second", after=("light",)), job("third")
    waiting = [light, first, second, third]
    assert find_startable(waiting, [], 2) == [light, first, third]
    assert find_startable([second], [first, third], 2) == []
    assert find_startable([second], [first, light], 2) == []
    assert find_startable([second], [first], 2) == [second]


def test_dependency_that_is_no_job_of_the_run_is_not_waited_for() -> None:
    """A run may leave out jobs."""
    assert find_startable([job("x", after=("absent",))], [], 1)


def test_all_jobs_run_though_one_fails(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The output of each is in one piece, and pytest's summary is read from it."""
    jobs = [
        job("red", "print('red'); raise SystemExit(3)"),
        job("green", "print('=== 7 passed, 1 skipped in 2.50s ===')", after=("red",)),
    ]
    red, green = run_jobs(jobs, 1, ENV, report=lambda _: None)
    assert (red.status, red.is_good, red.details) == (3, False, "")
    assert (green.status, green.counts) == (0, {"passed": 7, "skipped": 1})
    assert capfdbinary.readouterr().out.splitlines() == [
        b"red",
        b"=== 7 passed, 1 skipped in 2.50s ===",
    ]


def test_interrupt_ends_jobs_under_way() -> None:
    """They get the signal that lets pytest clean up."""

    def report(line: str) -> None:
        if line.startswith("short: "):
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job("long", "import time; time.sleep(60)"), job("short")], 2, ENV, report=report)
    assert time.monotonic() - begin < 30


def test_part_without_a_matching_test_has_not_failed() -> None:
    """So `-k` finds tests in any part."""
    assert Outcome("unit", 5, 1.0).is_good
    assert not Outcome("unit", 1, 1.0).is_good
