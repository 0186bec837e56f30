"""Processes by identity: a pid alone may be reused by another process.

Linux only: `/proc` and pidfds.
"""

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from enterprise_gateway.services.processproxies.scripts.runner import describe_wait_status

_ZOMBIE_STATES = frozenset({"Z", "X"})
_STATE, _START_TIME = 0, 19
"""Positions in /proc/PID/stat after the parenthesised command, proc(5)."""

ENDED = "the process ended"
"""The exit reason of a process that another one started: only a parent learns the status."""
_KILL_ROUNDS = 20
_KILL_DEADLINE_MILLISECONDS = 5000
"""A process in uninterruptible sleep ignores even SIGKILL until its disk answers."""
_TELL_DEADLINE_SECONDS = 5.0
"""How long the parent of an ended process may take to tell the exit reason."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, identified by its pid and its start time in clock ticks since boot."""

    pid: int
    """Positive: to `waitpid` and `kill` other numbers mean any child, or groups of processes."""
    start_time: int
    boot_id: str

    def __post_init__(self) -> None:
        """Refuse a number that is no pid."""
        if self.pid <= 0:
            raise ValueError(f"{self.pid} is not the pid of a process")

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """Return the identity of a running process, None if there is none with this pid."""
        fields = _stat_fields(pid)
        if fields is None or fields[_STATE] in _ZOMBIE_STATES:
            return None
        return cls(pid, int(fields[_START_TIME]), boot_id())

    @classmethod
    def gone(cls, pid: int) -> "ProcessIdentity":
        """Return the identity of a process that had ended before its start time was read."""
        return cls(pid, -1, boot_id())

    def is_running(self) -> bool:
        """Return whether this very process still runs; a zombie does not."""
        return ProcessIdentity.of(self.pid) == self

    def open(self) -> int | None:
        """Return a pidfd of this very process, None if it is gone. The caller closes it."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return None
        # Checked after opening: from now on the descriptor shows the end of the process that has
        # the pid.
        if self.is_running():
            return descriptor
        os.close(descriptor)
        return None

    def kill(self) -> None:
        """Kill this very process and wait for its end; harmless if it is gone."""
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


class ProcessWatch:
    """The watch of one process by the running event loop.

    Attributes:
        death: gets the exit reason.
    """

    def __init__(self, process: ProcessIdentity, told: asyncio.Future[str] | None = None) -> None:
        """Begin to watch.

        Args:
            process: it.
            told: gets the exit reason of a process whose parent is another one, which tells it;
                cancelled if that will not happen.
        """
        loop = asyncio.get_running_loop()
        self.death: asyncio.Future[str] = loop.create_future()
        self._loop = loop
        self._pid = process.pid
        self._deadline: asyncio.TimerHandle | None = None
        self._told = told if told is not None and not told.cancelled() else None
        self._descriptor = process.open()
        """A pidfd, which becomes readable when the process ends; None if the watch has stopped."""
        if self._descriptor is None:
            self._on_death()
        else:
            loop.add_reader(self._descriptor, self._on_death)

    def poll(self) -> str | None:
        """Return the exit reason, None if the process runs or the reason is still to come.

        May know the end before the event loop does.
        """
        if not self.death.done():
            reason = self._find_reason()
            if reason is None:
                return None
            self.end(reason)
        return self.death.result()

    def end(self, reason: str) -> None:
        """Stop watching, and resolve `death` unless it is resolved."""
        self.stop()
        if not self.death.done():
            self.death.set_result(reason)

    def stop(self) -> None:
        """Stop watching."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_death(self) -> None:
        self.stop()
        reason = self._find_reason()
        if reason is not None or self._told is None:
            self.end(reason or ENDED)
        else:
            self._told.add_done_callback(self._on_told)
            self._deadline = self._loop.call_later(_TELL_DEADLINE_SECONDS, self.end, ENDED)

    def _on_told(self, _: asyncio.Future[str]) -> None:
        if self._deadline is not None:
            self.end(self._find_reason() or ENDED)

    def _find_reason(self) -> str | None:
        """Return the exit reason of the ended process, None if it is not known yet."""
        if self._told is None or self._told.cancelled():
            return reap(self._pid)
        return self._told.result() if self._told.done() else None


def reap(pid: int) -> str | None:
    """Reap a dead child.

    Returns:
        Its exit reason, `ENDED` if it was not a child of this process; None if some of its
        threads are still ending.
    """
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return ENDED
    return describe_wait_status(status) if reaped else None


def kill_marked(mark: str) -> None:
    """Kill every process that has `mark` (`NAME=value`) in its environment, as children inherit it.

    Repeats until none is found, because the processes may be creating others.
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
            # A zombie has no environment, and another user's cannot be read.
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat_fields(pid: int) -> list[str] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return stat.rpartition(")")[2].split()
