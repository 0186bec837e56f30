"""Who came from whom."""

import os
import signal
import subprocess
from pathlib import Path

from kernel_agent.system.descendants import (
    descendants,
    end_descendants,
    is_descendant,
    read_parents,
    signal_descendants,
)


def test_descendants_of_all_generations_are_found() -> None:
    """And no other process."""
    parents = {1: 0, 2: 1, 3: 2, 4: 3, 5: 1, 6: 0}
    assert sorted(descendants(parents, 2)) == [3, 4]
    assert sorted(descendants(parents, 1)) == [2, 3, 4, 5]
    assert descendants(parents, 9) == []


def test_process_of_a_strange_name_has_a_parent(tmp_path: Path) -> None:
    """The name of a program may look like the fields that follow it."""
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        assert read_parents()[process.pid] == os.getpid()
        assert is_descendant(process.pid)
        process.kill()
    assert not is_descendant(process.pid)


def test_descendants_are_signalled_in_other_sessions_too() -> None:
    """Children of children, and those that left the process group; but not who is spared."""
    script = "setsid sleep 60 & sleep 60 & echo; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as spared:
        assert spared.stdout is not None
        spared.stdout.readline()
        while len(descendants(read_parents(), spared.pid)) < 2:
            pass
        signal_descendants(signal.SIGKILL, {spared.pid})
        assert spared.wait() == 0
        assert not descendants(read_parents(), spared.pid)


def test_descendants_are_gone_when_they_are_ended() -> None:
    """Also those that go on forking; what they held can be had at once."""
    script = "while :; do sleep 60 & wait; done & setsid sleep 60 & echo; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        end_descendants(0, 20)
        assert not descendants(read_parents(), os.getpid())
        assert process.wait() == -signal.SIGKILL


def test_spared_process_survives_the_end_of_the_others() -> None:
    """It alone: what it has started ends too."""
    script = "sleep 60 & echo; wait; read line"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["sh", "-c", script], **pipes) as spared:
        assert spared.stdout is not None
        spared.stdout.readline()
        end_descendants(0.0, 60.0, lambda: {spared.pid})
        assert not descendants(read_parents(), spared.pid)
        assert spared.poll() is None
        spared.kill()
