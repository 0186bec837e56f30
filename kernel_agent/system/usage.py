"""What the kernel has used: CPU time and memory, of the own control group or of the descendants."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional

from kernel_agent.system.cgroup import CGROUP_ROOT, PROC_CGROUP, group_folders

SAMPLE_SECONDS = 5.0
"""Shortest time between two readings."""


class Usage(NamedTuple):
    """What was used up to now."""

    cpu_seconds: float
    memory_bytes: int
    """The most at any time, as far as it was seen."""

    def describe(self) -> Dict[str, object]:
        """Return the `usage` of the state document."""
        return {
            "cpu_seconds": round(self.cpu_seconds, 1),
            "memory_peak_bytes": self.memory_bytes,
        }


class UsageMeter:
    """Reads the usage now and then. Neither number ever becomes smaller."""

    def __init__(
        self, read: Callable[[], Optional[Usage]], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._now = now
        self._last: Optional[Usage] = None
        self._due = 0.0

    def describe(self) -> Optional[Dict[str, object]]:
        """Return the usage, at most `SAMPLE_SECONDS` old; None if it cannot be measured."""
        if self._now() >= self._due:
            self.refresh()
        return self._last.describe() if self._last is not None else None

    def refresh(self) -> None:
        """Read it now."""
        self._due = self._now() + SAMPLE_SECONDS
        found = self._read()
        if found is None:
            return
        former = self._last or Usage(0.0, 0)
        self._last = Usage(
            max(former.cpu_seconds, found.cpu_seconds), max(former.memory_bytes, found.memory_bytes)
        )


def read_own_group(proc_cgroup: Path = PROC_CGROUP, root: Path = CGROUP_ROOT) -> Optional[Usage]:
    """Return the usage of the own control group: all that is in the container; None: not known."""
    cpu = _first(group_folders("cpuacct", proc_cgroup, root), "cpu.stat", "cpuacct.usage")
    memory = _first(
        group_folders("memory", proc_cgroup, root),
        "memory.peak",
        "memory.max_usage_in_bytes",
        "memory.current",
    )
    if cpu is None:
        return None
    cpu_seconds = parse_cpu_stat(cpu) if "usage_usec" in cpu else _number(cpu) / 1e9
    return Usage(cpu_seconds, int(_number(memory or "")))


def read_descendants() -> Usage:
    """Return the usage of this process's descendants, dead and alive.

    Without `/proc/PID/task/TID/children` (CONFIG_PROC_CHILDREN) it is that of the dead.
    """
    dead = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds, memory_bytes = dead.ru_utime + dead.ru_stime, 0
    for pid in _descendants(os.getpid()):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                usage = parse_stat(file.read())
        except (OSError, ValueError):
            continue
        cpu_seconds += usage.cpu_seconds
        memory_bytes += usage.memory_bytes
    return Usage(cpu_seconds, memory_bytes)


def parse_cpu_stat(text: str) -> float:
    """Return the seconds in a `cpu.stat` file of control groups, version 2."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return _number(value) / 1e6
    return 0.0


def parse_stat(stat: bytes) -> Usage:
    """Return what a process and its reaped children have used, by its `stat`, proc_pid_stat(5).

    Raises:
        ValueError: it is no such text.
    """
    # the name of the program, in parentheses, may hold anything
    fields = stat[stat.rindex(b")") + 1 :].split()
    if len(fields) < 22:
        raise ValueError("too few fields")
    ticks = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), resident)


def _descendants(root: int) -> Iterator[int]:
    waiting = [root]
    while waiting:
        for child in _children(waiting.pop()):
            yield child
            waiting.append(child)


def _children(pid: int) -> List[int]:
    found: List[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:  # it has ended
        pass
    return found


def _first(folders: List[Path], *names: str) -> Optional[str]:
    """Return the text of the first file of these names that is there."""
    for folder in folders:
        for name in names:
            try:
                return (folder / name).read_text()
            except OSError:
                continue
    return None


def _number(text: str) -> float:
    stripped = text.strip()
    return float(stripped) if stripped.isdecimal() else 0.0
