"""`scripts/test`: static checks, then the tests in parts, several of them at the same time."""

import argparse
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from tempfile import NamedTemporaryFile

from devtools import checks
from devtools.console import say
from devtools.engine import EngineChoice, engine
from devtools.host import ROOT, environment
from devtools.images import SWARM_IMAGES, USUAL_IMAGES, ensure_images
from devtools.parts import ENGINE, IMAGES, TESTS, UNIT, Part, find_folders, names_paths
from devtools.schedule import Job, Outcome, run_jobs

UNIT_SLOTS = 2
ENGINE_SLOTS = 3
"""The tests with kernels wait most of the time: three parts keep two cores busy."""

_NUMBERS = {"failed": "failures", "errors": "errors", "skipped": "skipped"}
"""The names of numbers in a report in JUnit's form, by pytest's words for them."""

CHECKS = "static checks"
PREPARATION = "engine and images"


def test_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Run checks and tests, in an order that fails early; return the exit status."""
    is_whole = not names_paths(rest)
    say(describe_plan(is_fast=options.fast, named=[] if is_whole else rest))
    begin = time.monotonic()
    before = changed_files()
    outcomes = list(run_steps(options, rest))
    left = sorted(changed_files() - before)
    say(describe_outcomes(outcomes))
    if left:
        say("FAILED: the tests left files in the checkout:\n" + "\n".join(left))
    say(describe_total(outcomes, time.monotonic() - begin))
    others = (CHECKS, PREPARATION, IMAGES)
    has_run = any(outcome.status == 0 for outcome in outcomes if outcome.name not in others)
    return 0 if has_run and all(outcome.is_good for outcome in outcomes) and not left else 1


def describe_plan(*, is_fast: bool, named: Sequence[str] = ()) -> str:
    """Return the steps of a run."""
    steps = [f"{CHECKS}; red ones end the run"]
    if named:
        steps.append(f"pytest {' '.join(named)}")
    else:
        steps.append("tests that need no engine, at the same time:")
        steps += [f"  {part.describe()}" for part in UNIT]
        if not is_fast:
            steps.append(f"{PREPARATION}, as far as most tests need them")
            steps.append(f"tests with kernels, up to {ENGINE_SLOTS} parts at the same time:")
            steps += [f"  {part.describe()}" for part in ENGINE]
            steps.append(f"  {IMAGES}, beside them")
    return "\nThis run:\n" + "\n".join(f"  {step}" for step in steps) + "\n"


def describe_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return a table of the steps, with the time that each took."""
    width = max(len(outcome.name) for outcome in outcomes)
    lines = [f"  {'part':{width}}  seconds  result"]
    lines += [
        f"  {outcome.name:{width}}  {outcome.seconds:7.0f}  {outcome.verdict}"
        for outcome in outcomes
    ]
    return "\n" + "\n".join(lines) + "\n"


def describe_total(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the last line of a run, in pytest's form."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.counts)
    counts = ", ".join(f"{number} {word}" for word, number in total.items()) or "no tests"
    return f"{counts} in {seconds:.0f} s ({seconds / 60:.0f} min)"


def run_steps(options: argparse.Namespace, rest: list[str]) -> Iterator[Outcome]:
    """Run what the options and arguments ask for; yields how each step ended."""
    is_whole = not names_paths(rest)
    begin = time.monotonic()
    checks.install_tools(browser=not options.fast)
    is_good = checks.run_checks(environment(None))
    yield Outcome(CHECKS, 0 if is_good else 1, time.monotonic() - begin)
    if not is_good:
        return
    if is_whole:
        yield from run_jobs([make_job(part, rest) for part in UNIT], UNIT_SLOTS, environment(None))
        if options.fast:
            return
    begin = time.monotonic()
    with engine(EngineChoice.NONE if options.fast else options.engine) as host:
        if host:
            ensure_images(host, SWARM_IMAGES if is_whole else USUAL_IMAGES)
        yield Outcome(PREPARATION, 0, time.monotonic() - begin)
        if is_whole:
            build = [sys.executable, str(ROOT / "tools"), "images"]
            build += [] if host else ["--no-engine"]
            jobs = [Job(IMAGES, build, takes_slot=False)]
            jobs += [make_job(part, rest) for part in ENGINE]
            yield from run_jobs(jobs, ENGINE_SLOTS, environment(host))
        else:
            yield run_pytest(rest, environment(host))


def make_job(part: Part, arguments: Sequence[str]) -> Job:
    """Return the job that runs a part, or what of it the arguments select."""
    folders = [str(folder) for folder in find_folders(part, TESTS)]
    # parts that run at the same time would write the same cache
    command = pytest_command(["-p", "no:cacheprovider", *folders, *arguments])
    return Job(part.name, command, part.after)


def run_pytest(arguments: Sequence[str], env: dict[str, str]) -> Outcome:
    """Run named tests in the foreground."""
    begin = time.monotonic()
    with NamedTemporaryFile() as report:
        command = pytest_command([f"--junit-xml={report.name}", *arguments])
        done = subprocess.run(command, cwd=ROOT, env=env, check=False)
        details = count_tests(report.read().decode())
    return Outcome("named tests", done.returncode, time.monotonic() - begin, details)


def count_tests(report: str) -> str:
    """Return the numbers in a report in JUnit's form as pytest's last line has them."""
    suite = re.search(r"<testsuite [^>]*>", report)
    numbers = dict(re.findall(r' (\w+)="(\d+)"', suite[0] if suite else ""))
    counts = {word: int(numbers.get(name, 0)) for word, name in _NUMBERS.items()}
    counts["passed"] = int(numbers.get("tests", 0)) - sum(counts.values())
    return ", ".join(f"{number} {word}" for word, number in counts.items() if number)


def pytest_command(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs pytest and tells which tests took longest."""
    return [sys.executable, "-m", "pytest", "--durations=30", "--durations-min=1", *arguments]


def changed_files() -> set[str]:
    """Return the changed and untracked files of the checkout; none without git."""
    try:
        done = subprocess.run(
            ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return set()
    return set(done.stdout.splitlines())
