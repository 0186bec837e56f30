"""A machine in the machine: namespaces of its own, held by an init process.

It ends with the process that booted it, however that ends: its init reads a pipe that only that
process can write to, and the kernel kills all of a pid namespace when its init ends.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devtools.console import SetupError, run, wait_until

BOOT = """
set -e
hostname "$1"
cd "$2"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p "$2" /etc/docker
mount --no-canonicalize --bind . "$2"  # as a path it would be the new, empty folder
mount --bind "$3" /etc/docker
ip link set lo up
echo up
exec tini -- cat >/dev/null
"""
"""The first process. `/run` is its own, as it has locks and sockets of other engines."""

CGROUPS = Path("/sys/fs/cgroup")
END_TIMEOUT = 60.0


@dataclass(frozen=True)
class Paths:
    """The folders of a machine; they go with it."""

    run: Path
    """Its sockets; a short path, since that of a socket has at most 107 bytes."""
    home: Path
    """Its disk; stays when the machine is powered off."""


class Machine:
    """Namespaces for pids, mounts, the network and the host's name, and a cgroup."""

    def __init__(self, name: str, paths: Paths) -> None:
        self.name = name
        self.paths = paths
        self.process: subprocess.Popen[str] | None = None
        self._init = 0

    @property
    def init(self) -> int:
        """The id of its first process, as its host sees it.

        Raises:
            SetupError: the machine is off.
        """
        if self.process is None:
            raise SetupError(f"{self.name} is powered off")
        return self._init

    @property
    def cgroup(self) -> str:
        """The cgroup of all that runs in containers on it."""
        return f"/{self.name}"

    def boot(self) -> None:
        """Switch it on."""
        etc = self.paths.home / "etc"
        for folder in (self.paths.run, etc):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Docker's own mounts on the host must not be kept busy: hence slave
        isolation = ["--net", "--uts", "--mount", "--propagation=slave", "--pid", "--mount-proc"]
        self.process = hold(
            [
                *("unshare", *isolation, "--fork", "--kill-child", "--"),
                *("sh", "-c", BOOT, "boot", self.name, str(self.paths.run), str(etc)),
            ]
        )
        self._init = only_child(self.process.pid)

    def power_off(self) -> None:
        """End everything that runs on it, at once."""
        if self.process is None:
            return
        os.kill(self._init, signal.SIGKILL)
        end(self.process)
        self.process = None
        remove_cgroups(self.name)

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs a command on this machine.

        The process made of it is not the command but its parent, which ends as the command does.
        """
        namespaces = ["--pid", "--mount", "--uts", "--net"]
        return ["nsenter", f"--target={self.init}", *namespaces, "--", *command]

    def run(self, *command: str) -> str:
        """Return what a command prints on this machine.

        Raises:
            SetupError: it failed.
        """
        return run(self.enter(*command))

    def path(self, path: str) -> Path:
        """Return where the host finds a file that lies at `path` for this machine."""
        return Path(f"/proc/{self.init}/root") / path.lstrip("/")


def hold(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start what ends with its standard input, and wait until it says `up`.

    Raises:
        SetupError: it ended before; says what it said.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # unshare(1) has a warning for each init that was killed
        start_new_session=True,  # Ctrl-C is for the process that calls
        text=True,
    )
    if process.stdout is None or process.stdout.readline() != "up\n":
        _, said = process.communicate()
        raise SetupError(f"no namespaces for a Swarm: {said.strip()}")
    return process


def end(process: subprocess.Popen[str]) -> None:
    """Kill what is held."""
    process.kill()
    process.communicate()


def only_child(pid: int) -> int:
    """Return the id of a process' only child; see proc(5) on `children`."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def remove_cgroups(pattern: str) -> None:
    """Remove cgroups by their names, after the end of their processes.

    They are at the top of each hierarchy, of which there are several in version 1.

    Raises:
        SetupError: something goes on in one.
    """

    def removed() -> bool:
        for top in (*CGROUPS.glob(pattern), *CGROUPS.glob(f"*/{pattern}")):
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError:  # a process that was killed is not gone yet
                    return False
        return True

    wait_until(removed, END_TIMEOUT, f"end of all processes in {pattern}")


def remove_machine(paths: Paths) -> None:
    """Remove the files of a machine that is off."""
    for folder in (paths.home, paths.run):
        shutil.rmtree(folder, ignore_errors=True)
