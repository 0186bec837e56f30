"""Which commands are ipykernel's, and what their spare is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_agent.process.spare_command import BOOT, spare_command

LAUNCH = "import runpy; runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)"


@pytest.mark.parametrize(
    ("argv", "flags"),
    [
        (["python", "-m", "ipykernel_launcher", "-f", "x"], 1),
        (["/opt/conda/bin/python3.12", "-m", "ipykernel", "-f", "x"], 1),
        (["python3", "-Es", "-X", "utf8", "-Xdev", "-W", "ignore", "-m", "ipykernel_launcher"], 7),
        (["python3", "-c", LAUNCH, "-f", "x"], 1),
    ],
)
def test_ipykernel_in_a_python_has_a_spare(argv: list[str], flags: int) -> None:
    """The same interpreter and flags; the words of the command come last."""
    command = spare_command(argv)
    assert command is not None
    assert command.argv == [*argv[:flags], "-c", BOOT, *argv[flags:]]
    assert command.words == argv[flags:]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["python3"],
        ["python3", "-m"],
        ["python3", "-m", "bash_kernel", "-f", "x"],
        ["python3", "-c", "print()", "-f", "x"],
        ["python3", "kernel.py", "-m", "ipykernel_launcher"],
        ["python3", "--unknown", "-m", "ipykernel_launcher"],
        ["python3", "-i", "-m", "ipykernel_launcher"],
        ["R", "--slave", "-e", "IRkernel::main()", "--args", "x"],
        ["toree", "x"],
        ["conda", "run", "python", "-m", "ipykernel_launcher"],
        ["sh", "-c", "exec python -m ipykernel_launcher -f x"],
        ["ipython", "kernel"],
    ],
)
def test_other_commands_have_none(argv: list[str]) -> None:
    """What is not known to be the same is started anew."""
    assert spare_command(argv) is None


def test_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    """Whatever a kernelspec has in them: they are data to the program that the spare gets."""
    argv = ["python3", "-m", "ipykernel_launcher", "-f", "a'b\"c\\\n{}%s\u00e4"]
    command = spare_command(argv)
    assert command is not None
    text = b"def main(*args, waits):\n    import json; print(json.dumps([*args, waits]))\n"
    script = tmp_path / "script.py"
    script.write_bytes(command.script(text, ["numpy", "a.b"], waits=True))
    done = subprocess.run([sys.executable, script], check=True, capture_output=True)
    assert json.loads(done.stdout) == [argv, argv[1:], ["numpy", "a.b"], True]
