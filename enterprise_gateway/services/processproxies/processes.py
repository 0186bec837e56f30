"""Processes by identity: a pid alone may be somebody else's by the time one looks.

Linux only: `/proc` and pidfds.
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ZOMBIE_STATES = frozenset({"Z", "X"})
_STATE, _START_TIME = 0, 19
"""Positions in /proc/PID/stat after the parenthesised command, proc(5)."""

_KILL_ROUNDS = 20
_KILL_DEADLINE_MILLISECONDS = 5000
"""A process in uninterruptible sleep does not even die of SIGKILL, until its disk answers."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process for all time: its pid and when it started, in clock ticks since boot."""

    pid: int
    start_time: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """Return the identity of a running process, None if there is none with this pid."""
        fields = _stat_fields(pid)
        if fields is None or fields[_STATE] in _ZOMBIE_STATES:
            return None
        return cls(pid, int(fields[_START_TIME]), boot_id())

    @classmethod
    def gone(cls, pid: int) -> "ProcessIdentity":
        """Return the identity of a process that had ended before it could be asked."""
        return cls(pid, -1, boot_id())

    def is_running(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return ProcessIdentity.of(self.pid) == self

    def open(self) -> int | None:
        """Return a pidfd of this very process, None if it is gone. The caller closes it."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return None
        # Checked only now: from here on the pid cannot be anybody else's unless the descriptor says
        # that the process ended.
        if self.is_running():
            return descriptor
        os.close(descriptor)
        return None

    def kill(self) -> None:
        """Kill this very process and wait until it has ended; harmless if it is gone."""
        descriptor = self.open()
        if descriptor is None:
            return
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            ended.poll(_KILL_DEADLINE_MILLISECONDS)
        finally:
            os.close(descriptor)


def kill_marked(mark: str) -> None:
    """Kill every process that has `mark` (`NAME=value`) in its environment, as children inherit it.

    Repeated until none is found, since they may be making others meanwhile.
    """
    for _ in range(_KILL_ROUNDS):
        found = list(_marked_processes(mark.encode()))
        if not found:
            return
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _marked_processes(mark: bytes) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            # A zombie has no environment; that of another user's process cannot be read.
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def describe_wait_status(status: int) -> str:
    """Say how a process ended, from what `waitpid` returned."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def boot_id() -> str:
    """Return what distinguishes this boot of the machine from all others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat_fields(pid: int) -> list[str] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return stat.rpartition(")")[2].split()
