"""Static checks, and the programs that checks and tests need."""

import re
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

from devtools.console import run, say, step
from devtools.host import ROOT, apt_install, can_install, distribution, which


def install_tools(*, browser: bool) -> None:
    """Install the programs that are not Python packages, where that is possible."""
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
    """Return the commands that read the source without running it, by name."""
    files = [ROOT / ".ci" / "run", *sorted((ROOT / "scripts").iterdir())]
    files += [ROOT / "kernel_agent" / "prelude.sh", *sorted((ROOT / "etc").rglob("*"))]
    shell_scripts = [str(file) for file in files if file.is_file() and is_shell_script(file)]
    return {
        **({"shellcheck": ["shellcheck", *shell_scripts]} if which("shellcheck") else {}),
        "ruff check": ["ruff", "check", "--output-format=concise"],
        "ruff format": ["ruff", "format", "--check"],
        "mypy": ["mypy"],
        "import-linter": ["lint-imports"],
        # An environment that is not fresh repeats no warning about a page that has not changed.
        "documentation": ["sphinx-build", "-W", "--keep-going", "-qE", "docs", "build/site"],
    }


def is_shell_script(file: Path) -> bool:
    """Whether a shell runs it, by its first line."""
    with file.open("rb") as stream:
        return bool(re.match(rb"#!.*\b(sh|bash)$", stream.readline(100).rstrip()))


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
