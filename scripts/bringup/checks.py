"""`scripts/test`: static checks, then the tests in an order that fails early."""

import subprocess
import sys
from collections.abc import Sequence
from ctypes.util import find_library
from pathlib import Path

from bringup.console import run, say, step
from bringup.host import ROOT, apt_install, can_install, distribution, which

ORDER = ("unit", "contract", "integration", "docker", "swarm", "clients")
"""The folders of tests that come first: what is quick, and what others build upon."""


def install_tools(*, browser: bool) -> None:
    """Have the programs that are not Python packages, where they can be installed."""
    if not can_install():
        return
    present = {"shellcheck": which("shellcheck")}
    if browser:
        present["libatomic1"] = find_library("atomic")  # which Playwright's driver is linked to
        if distribution().get("ID") == "debian":
            present["chromium"] = which("chromium")
    missing = [package for package, found in present.items() if not found]
    if missing:
        apt_install(missing)
    if browser and not which("chromium"):  # Ubuntu has it as a snap only
        with step("Installing Chromium"):
            run([sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"])


def static_checks() -> dict[str, list[str]]:
    """Return the commands that look at the source without running it, by what to call them."""
    files = [ROOT / ".ci" / "run", *sorted((ROOT / "scripts").iterdir())]
    shell_scripts = [str(file) for file in files if file.is_file() and not file.suffix]
    shell_scripts.append(str(ROOT / "kernel_agent" / "prelude.sh"))
    return {
        **({"shellcheck": ["shellcheck", *shell_scripts]} if which("shellcheck") else {}),
        "ruff check": ["ruff", "check", "--output-format=concise"],
        "ruff format": ["ruff", "format", "--check"],
        "mypy": ["mypy"],
        "import-linter": ["lint-imports"],
    }


def folders_with_tests(tests: Path, *, fast: bool) -> list[str]:
    """Return the folders with tests in the order to run them; only the unit tests if `fast`."""
    names = {file.relative_to(tests).parts[0] for file in tests.glob("*/**/test_*.py")}
    chosen = [name for name in ORDER[: 1 if fast else None] if name in names]
    rest = [] if fast else sorted(names.difference(ORDER))
    return [str(tests / name) for name in (*chosen, *rest)]


def pytest_arguments(arguments: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Return the arguments of pytest: the folders give way to paths that the caller names."""
    paths = [argument.split("::")[0] for argument in arguments]
    named = any("/" in path and (ROOT / path).exists() for path in paths)
    return [*([] if named else folders), *arguments]


def run_checks(env: dict[str, str]) -> bool:
    """Run all static checks, even after one failed; whether they all passed."""
    failed = []
    for name, command in static_checks().items():
        with step(name):
            done = subprocess.run(command, cwd=ROOT, env=env, check=False)
        if done.returncode:
            failed.append(name)
    if failed:
        say(f"FAILED: {', '.join(failed)}")
    return not failed


def run_tests(arguments: Sequence[str], env: dict[str, str], *, fast: bool) -> bool:
    """Run pytest, its summary coming last; whether it passed."""
    folders = folders_with_tests(ROOT / "tests", fast=fast)
    command = [sys.executable, "-m", "pytest", *pytest_arguments(arguments, folders)]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode == 0
