"""The engine of our own: it lives as long as its last user, whoever is killed."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from harness.waiting import wait_until

from bringup import bridge
from bringup.private_engine import Places, connected, ready

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run an engine of its own"),
]

SCRIPTS = Path(__file__).parents[2] / "scripts"
USER = """
import sys
from pathlib import Path
from bringup import bridge
from bringup.private_engine import Places, lease

with lease(Places(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])):
    print("in use", flush=True)
    sys.stdin.read()
"""
DEADLINE = 60.0


User = subprocess.Popen[str]


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Places]:
    """Places of the test's own; a socket's path must be short."""
    places = Places(tmp_path / "data", Path(f"/run/eg-test-{os.getpid()}"), f"eg-t{os.getpid()}")
    yield places
    wait_until(lambda: not processes(places), deadline=DEADLINE, what="end of the private engine")
    bridge.delete(places.bridge)
    shutil.rmtree(places.run)


@pytest.fixture
def use(at: Places) -> Iterator[Callable[[], User]]:
    """Start a process that uses the engine until its stdin is closed."""
    users = []

    def start() -> User:
        user = subprocess.Popen(
            [sys.executable, "-c", USER, str(at.data), str(at.run), at.bridge],
            env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        users.append(user)
        assert user.stdout is not None
        assert user.stdout.readline() == "in use\n"
        return user

    yield start
    for user in users:
        kill(user)


def end(user: User) -> None:
    """Let a user end by itself."""
    user.communicate(timeout=DEADLINE)


def kill(user: User) -> None:
    """Kill a user, if it has not ended."""
    user.kill()
    if user.stdin is not None and not user.stdin.closed:
        user.communicate(timeout=DEADLINE)


def processes(at: Places) -> dict[int, str]:
    """Return guardian, engine, and what they started: command lines by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and str(at.run) in (folder / "cmdline").read_text():
                found[int(folder.name)] = (folder / "cmdline").read_text()
    found.pop(os.getpid(), None)
    return found


def guardian(at: Places) -> int:
    """Return the process id of the guardian."""
    (pid,) = [pid for pid, command in processes(at).items() if "guard-engine" in command]
    return pid


def is_left(at: Places) -> bool:
    """Whether anything of the engine is still there."""
    interface = Path("/sys/class/net", at.bridge).exists()
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return bool(processes(at)) or interface or at.bridge in rules or f"{at.run}/" in mounts


def test_engine_ends_with_its_last_user_even_if_that_is_killed(
    at: Places, use: Callable[[], User]
) -> None:
    """The one who started it may go first; containers and networks go with the engine."""
    first = use()
    second = use()
    end(first)
    with connected(at) as client:
        assert client.containers.list() == []
    kill(second)
    wait_until(lambda: not is_left(at), deadline=DEADLINE, what="end of the private engine")


def test_engine_starts_again_after_its_guardian_was_killed(
    at: Places, use: Callable[[], User]
) -> None:
    """The engine does not go on unguarded, and the next one clears away what is left."""
    user = use()
    os.kill(guardian(at), signal.SIGKILL)
    wait_until(lambda: not ready(at.socket), deadline=DEADLINE, what="end of the unguarded engine")
    kill(user)
    end(use())
