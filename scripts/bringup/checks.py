"""`scripts/test`: static checks, then the tests in an order that fails early."""

import subprocess
import sys
from collections.abc import Sequence

from bringup.console import run, say, step
from bringup.host import ROOT, can_install, distribution, install_commands, which

FAST = ("tests/unit",)
ALL = ("tests/unit", "tests/contract", "tests/integration", "tests/docker", "tests/clients")


def install_tools(*, browser: bool) -> None:
    """Have the programs that are not Python packages, where they can be installed."""
    if not can_install():
        return
    wanted = {"shellcheck": "shellcheck"}
    if browser and distribution().get("ID") == "debian":
        wanted["chromium"] = "chromium"
    install_commands(wanted)
    if browser and not which("chromium"):  # Ubuntu has it as a snap only
        with step("Installing Chromium"):
            run([sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"])


def static_checks() -> list[list[str]]:
    """Return the commands that look at the source without running it."""
    files = [ROOT / ".ci" / "run", *sorted((ROOT / "scripts").iterdir())]
    shell_scripts = [str(file) for file in files if file.is_file() and not file.suffix]
    return [
        *([["shellcheck", *shell_scripts]] if which("shellcheck") else []),
        ["ruff", "check", "--output-format=concise"],
        ["ruff", "format", "--check"],
        ["mypy"],
        ["lint-imports"],
    ]


def pytest_arguments(arguments: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Return the arguments of pytest: the folders give way to paths that the caller names."""
    paths = [argument.split("::")[0] for argument in arguments]
    named = any("/" in path and (ROOT / path).exists() for path in paths)
    chosen = [] if named else [folder for folder in folders if (ROOT / folder).is_dir()]
    return [*chosen, *arguments]


def run_checks(env: dict[str, str]) -> bool:
    """Run all static checks, even after one failed; whether they all passed."""
    failed = []
    for command in static_checks():
        with step(command[0]):
            done = subprocess.run(command, cwd=ROOT, env=env, check=False)
        if done.returncode:
            failed.append(command[0])
    if failed:
        say(f"FAILED: {', '.join(failed)}")
    return not failed


def run_tests(arguments: Sequence[str], folders: Sequence[str], env: dict[str, str]) -> bool:
    """Run pytest, its summary coming last; whether it passed."""
    command = [sys.executable, "-m", "pytest", *pytest_arguments(arguments, folders)]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode == 0
