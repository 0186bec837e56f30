"""The steps of a start that the agent sees."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernel_agent.kernel import steps as under_test
from kernel_agent.kernel.steps import AGENT, END, KERNEL, Steps, process_begun

ROOT = Path(__file__).parents[4]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock, whose time is the last element."""
    times = [100.0]
    monkeypatch.setattr(under_test, "time", SimpleNamespace(monotonic=lambda: times[-1]))
    return times


def test_steps_follow_one_another(clock: list[float]) -> None:
    """They add up to all of it."""
    steps = Steps(AGENT, 99.75)
    steps.begin(KERNEL)
    clock.append(102.0)
    assert steps.describe() == {"seconds": 2.25, "steps": {"agent": 0.25, "kernel": 2.0}}


def test_second_process_of_a_restart_counts_as_the_first(clock: list[float]) -> None:
    """As when it has died before it was ready."""
    steps = Steps(END, 100.0)
    for now in (101.0, 103.0):
        clock.append(now)
        steps.begin(KERNEL)
    clock.append(104.5)
    assert steps.describe() == {"seconds": 4.5, "steps": {"end": 1.0, "kernel": 3.5}}


def test_process_begins_before_its_shell_became_python() -> None:
    """Time that an entry point takes before it executes the agent counts as the agent's."""
    code = "from kernel_agent.kernel.steps import process_begun; print(process_begun())"
    before = time.monotonic()
    script = f'read -r line; exec "{sys.executable}" -c "{code}"'
    with subprocess.Popen(
        ["sh", "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        spawned = time.monotonic()
        told, _ = shell.communicate("go\n", timeout=60)
    tick = 0.01
    assert before - 2 * tick < float(told) < spawned + 2 * tick


@pytest.mark.parametrize("stat", [None, "", "1 (a) b) R", f"1 (python3) S {'0 ' * 18}0 0"])
def test_unknown_beginning_of_the_process_is_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stat: str | None
) -> None:
    """Without /proc, or with that of another machine, it is when the agent's own code begins."""
    if stat is not None:
        (tmp_path / "stat").write_text(stat)
    monkeypatch.setattr(under_test, "PROC_STAT", str(tmp_path / "stat"))
    monkeypatch.setattr(under_test, "MAX_AGE_SECONDS", 0.001)  # this machine was booted before
    before = time.monotonic()
    assert before <= process_begun() <= time.monotonic()
