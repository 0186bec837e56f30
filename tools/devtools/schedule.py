"""Jobs that run at the same time, each in a process whose output is printed when it has ended."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from devtools.console import say
from devtools.host import ROOT

NOTHING_COLLECTED = 5
"""pytest's exit code when no test of a part matches, as with `-k`."""

STOP_SECONDS = 60.0
"""The time that a job gets to clean up when the run is interrupted."""

POLL_SECONDS = 0.2

_SUMMARY = re.compile(r"^=+ (.*) in [\d.]+s.*=+$", re.MULTILINE)
"""The last line of pytest."""

_COUNT = re.compile(r"(\d+) (\w+)")


@dataclass(frozen=True)
class Job:
    """A program to run."""

    name: str
    command: Sequence[str]
    after: tuple[str, ...] = ()
    """Names of jobs that must have ended; others are not waited for."""
    takes_slot: bool = True
    """Whether it counts among the jobs that may run at the same time."""


@dataclass(frozen=True)
class Outcome:
    """The end of a step of the run."""

    name: str
    status: int
    seconds: float
    details: str = ""

    @property
    def is_good(self) -> bool:
        """Whether no test failed; there may have been none."""
        return self.status in (0, NOTHING_COLLECTED)

    @property
    def counts(self) -> dict[str, int]:
        """How many tests passed, failed, …, as pytest said."""
        return {word: int(number) for number, word in _COUNT.findall(self.details)}

    @property
    def verdict(self) -> str:
        """The result in words."""
        words = {0: "passed", NOTHING_COLLECTED: "no test"}
        verdict = words.get(self.status, f"FAILED (exit code {self.status})")
        return f"{verdict}: {self.details}" if self.details else verdict


class _Running:
    """A job under way."""

    def __init__(self, job: Job, env: Mapping[str, str], output: IO[bytes]) -> None:
        """Start it."""
        self.job = job
        self._output = output
        self._begin = time.monotonic()
        self.process = subprocess.Popen(
            job.command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches it once, from here
        )

    def finish(self) -> Outcome:
        """Print the output of the job, which has ended."""
        seconds = time.monotonic() - self._begin
        self._output.seek(0)
        output = self._output.read()
        sys.stdout.flush()
        sys.stdout.buffer.write(output)
        sys.stdout.flush()
        summaries = _SUMMARY.findall(output.decode(errors="replace"))
        details = str(summaries[-1]) if summaries else ""
        return Outcome(self.job.name, self.process.wait(), seconds, details)

    def stop(self) -> None:
        """Interrupt it, so that it cleans up; kill it if it does not end."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_jobs(
    jobs: Sequence[Job],
    slots: int,
    env: Mapping[str, str],
    report: Callable[[str], None] = say,
) -> list[Outcome]:
    """Run all jobs, even after one has failed; leaving early interrupts those under way.

    Args:
        jobs: the first that may run is started first.
        slots: how many may run at the same time, besides those that take no slot.
        env: the environment of all.
        report: prints a line.

    Returns:
        How they ended, in the order of `jobs`.
    """
    waiting = list(jobs)
    running: list[_Running] = []
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as outputs:
        outputs.callback(_stop_all, running)
        while waiting or running:
            for job in find_startable(waiting, [each.job for each in running], slots):
                waiting.remove(job)
                report(f"{job.name} …")
                running.append(_Running(job, env, outputs.enter_context(TemporaryFile())))
            time.sleep(POLL_SECONDS)
            for ended in [each for each in running if each.process.poll() is not None]:
                running.remove(ended)
                outcome = outcomes[ended.job.name] = ended.finish()
                report(f"{outcome.name}: {outcome.verdict}, {outcome.seconds:.0f} s")
    return [outcomes[job.name] for job in jobs]


def _stop_all(running: Sequence[_Running]) -> None:
    for each in running:
        each.stop()


def find_startable(waiting: Sequence[Job], running: Sequence[Job], slots: int) -> list[Job]:
    """Return the jobs to start now."""
    unfinished = {job.name for job in (*waiting, *running)}
    free = slots - sum(job.takes_slot for job in running)
    found = []
    for job in waiting:
        if unfinished.intersection(job.after) or (job.takes_slot and not free):
            continue
        free -= job.takes_slot
        found.append(job)
    return found
