"""The engine of our own: it lives as long as its last user, whichever process is killed."""

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

from devtools import bridge
from devtools.private_engine import Paths, connected, ready

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run an engine of its own"),
]

TOOLS = Path(__file__).parents[2] / "tools"
USER = """
import sys
from pathlib import Path
from devtools import bridge
from devtools.private_engine import Paths, lease

with lease(Paths(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])):
    print("in use", flush=True)
    sys.stdin.read()
"""
DEADLINE = 120.0


User = subprocess.Popen[str]


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    """Paths for the test alone; that of a socket must be short."""
    paths = Paths(tmp_path / "data", Path(f"/run/eg-test-{os.getpid()}"), f"eg-t{os.getpid()}")
    yield paths
    wait_until(lambda: not processes(paths), deadline=DEADLINE, what="end of the private engine")
    bridge.delete(paths.bridge)
    shutil.rmtree(paths.run)


@pytest.fixture
def use(paths: Paths) -> Iterator[Callable[[], User]]:
    """Start a process that uses the engine until its stdin is closed."""
    users = []

    def start() -> User:
        user = subprocess.Popen(
            [sys.executable, "-c", USER, str(paths.data), str(paths.run), paths.bridge],
            env={**os.environ, "PYTHONPATH": str(TOOLS)},
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


def processes(paths: Paths) -> dict[int, str]:
    """Return the keeper, the engine, and what they started: command lines by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and str(paths.run) in (folder / "cmdline").read_text():
                found[int(folder.name)] = (folder / "cmdline").read_text()
    found.pop(os.getpid(), None)
    return found


def keeper(paths: Paths) -> int:
    """Return the process id of the keeper."""
    (pid,) = [pid for pid, command in processes(paths).items() if "keep-engine" in command]
    return pid


def is_left(paths: Paths) -> bool:
    """Whether anything of the engine is still there."""
    interface = Path("/sys/class/net", paths.bridge).exists()
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return bool(processes(paths)) or interface or paths.bridge in rules or f"{paths.run}/" in mounts


def test_engine_ends_with_its_last_user_even_if_that_is_killed(
    paths: Paths, use: Callable[[], User]
) -> None:
    """The one who started it may go first; containers and networks go with the engine."""
    first = use()
    second = use()
    end(first)
    with connected(paths) as client:
        assert client.containers.list() == []
    kill(second)
    wait_until(lambda: not is_left(paths), deadline=DEADLINE, what="end of the private engine")


def test_engine_starts_again_after_its_keeper_was_killed(
    paths: Paths, use: Callable[[], User]
) -> None:
    """The engine does not go on without its keeper, and the next one clears away what is left."""
    user = use()
    os.kill(keeper(paths), signal.SIGKILL)
    wait_until(
        lambda: processes(paths).keys() == {user.pid},
        deadline=DEADLINE,
        what="end of the engine without a keeper",
    )
    assert not ready(paths.socket)
    kill(user)
    end(use())
