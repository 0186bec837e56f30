"""The entry point of kernel images: which command the agent is given."""

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "etc/kernel-launchers/bootstrap/bootstrap-kernel.sh"
LAUNCH = (
    "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
    "runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)"
)
SHOW = '#!/bin/sh\nprintf "%s\\n" "$@"\n'

Bootstrap = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bootstrap(tmp_path: Path) -> Bootstrap:
    """Run the script in an environment; what would be the agent prints its arguments."""
    python = tmp_path / "python3"
    python.write_text(SHOW)
    python.chmod(0o755)

    def run(**env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", SCRIPT],
            env={"PATH": str(tmp_path), "KERNEL_ID": "k", **env},
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize(
    ("language", "command"),
    [
        ("python", ["python3", "-c", LAUNCH, "-f", "{connection_file}"]),
        ("R", ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"]),
        ("scala", ["toree", "{connection_file}"]),
    ],
)
def test_language_is_known_in_any_case(
    bootstrap: Bootstrap, language: str, command: list[str]
) -> None:
    """The gateway passes it in lower case, Enterprise Gateway's images had R in upper case."""
    for spelling in (language.lower(), language.upper(), language.capitalize()):
        done = bootstrap(KERNEL_LANGUAGE=spelling)
        assert done.stdout.splitlines() == ["-I", "-m", "kernel_agent", "--", *command]


@pytest.mark.parametrize("language", ["cobol", "", "r;id", "$(id)", "scala\nr"])
def test_unknown_language_is_refused(bootstrap: Bootstrap, language: str) -> None:
    """In a sentence, which the user gets to read."""
    done = bootstrap(KERNEL_LANGUAGE=language)
    assert done.returncode != 0
    assert "KERNEL_LANGUAGE" in done.stderr
    assert not done.stdout


def test_values_are_not_evaluated(bootstrap: Bootstrap, tmp_path: Path) -> None:
    """What users choose is an argument, whatever is in it."""
    hostile = "x'\"$(touch evil)`touch evil`; touch evil"
    done = bootstrap(KERNEL_LANGUAGE="python", KERNEL_CLASS_NAME=hostile)
    assert done.stdout.splitlines()[-1] == f"--IPKernelApp.kernel_class={hostile}"
    assert not (tmp_path / "evil").exists()


def test_working_directory_shadows_no_module_of_the_kernels(
    bootstrap: Bootstrap, tmp_path: Path
) -> None:
    """Neither its launcher nor what that imports; arguments and program name are as with `-m`."""
    for name in ("ipykernel_launcher", "runpy", "zmq"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    options = bootstrap(KERNEL_LANGUAGE="python").stdout.splitlines()[5:]
    done = subprocess.run(
        [sys.executable, *options[:2], "--version"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == metadata.version("ipython")
