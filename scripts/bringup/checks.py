"""`scripts/test`: static checks, then the tests in an order that fails early."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bringup.console import say, step
from bringup.host import ROOT, VENV

FAST = ("tests/unit",)
ALL = ("tests/unit", "tests/contract", "tests/integration", "tests/docker", "tests/clients")


def static_checks() -> list[list[str]]:
    """The commands that look at the source without running it."""
    return [
        ["ruff", "check", "--output-format=concise"],
        ["ruff", "format", "--check"],
        ["mypy"],
        ["lint-imports"],
    ]


def pytest_arguments(arguments: Sequence[str], folders: Sequence[str]) -> list[str]:
    """The arguments of pytest: its own defaults give way to paths that the caller names."""
    named = any(Path(argument.split("::")[0]).exists() for argument in arguments)
    chosen = [] if named else [folder for folder in folders if (ROOT / folder).is_dir()]
    return [*chosen, *arguments]


def run_checks() -> bool:
    """Run all static checks, even after one failed; whether they all passed."""
    failed = []
    for command in static_checks():
        with step(" ".join(command)):
            done = subprocess.run(
                [str(VENV / "bin" / command[0]), *command[1:]], cwd=ROOT, check=False
            )
        if done.returncode:
            failed.append(" ".join(command))
    if failed:
        say(f"FAILED: {', '.join(failed)}")
    return not failed


def run_tests(arguments: Sequence[str], folders: Sequence[str], env: dict[str, str]) -> bool:
    """Run pytest, its summary coming last; whether it passed."""
    command = [sys.executable, "-m", "pytest", *pytest_arguments(arguments, folders)]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode == 0
