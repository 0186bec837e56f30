"""Which processes a figure is about."""

import os
import subprocess
from subprocess import PIPE

from benchmarks import processes
from kernel_agent.process.spare_command import spare_command


def test_spare_is_told_from_its_kernel() -> None:
    """The memory of a spare is not its kernel's."""
    command = spare_command(["python3", "-m", "ipykernel_launcher"])
    assert command is not None
    with subprocess.Popen(command.argv, stdin=PIPE, stdout=PIPE, bufsize=0) as spare:
        try:
            assert spare.stdin is not None
            assert spare.stdout is not None
            spare.stdin.write(b"print('it runs', flush=True); input()")
            assert spare.stdout.readline() == b"it runs\n"
            assert processes.spare_pids([os.getpid(), spare.pid]) == [spare.pid]
        finally:
            spare.kill()
