"""Finds and signals all descendants of this process, across sessions and process groups."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import AbstractSet, Callable, Dict, Iterable, List, Mapping, Set

MAX_ROUNDS = 20
"""Number of searches for processes that were forked meanwhile; some programs never stop forking."""
POLL_SECONDS = 0.005
"""Interval of searches while killed processes end."""


def signal_descendants(signum: int, spare: AbstractSet[int] = frozenset()) -> None:
    """Signal all descendants except `spare`, including those forked meanwhile."""
    signalled: Set[int] = set(spare)
    for _ in range(MAX_ROUNDS):
        found = set(descendants(read_parents(), os.getpid())) - signalled
        if not found:
            return
        _signal(signum, found)
        signalled |= found


def end_descendants(
    patience: float, timeout: float, spare: Callable[[], AbstractSet[int]] = frozenset
) -> None:
    """Wait for all descendants but `spare` to end, and kill those that do not. Blocks.

    They are stopped before the first is killed: as long as some of them go on, what forks whenever
    there is room for another process takes the place of those that were killed.

    Args:
        patience: seconds for them to end by themselves; in that time Python's resource tracker, for
            example, removes the shared memory of its process.
        timeout: seconds after which to return; a process in an uninterruptible system call may
            survive.
        spare: returns those that survive, which may end meanwhile.
    """
    start = time.monotonic()
    stopped: Set[int] = set()
    rounds = 0
    while True:
        found = set(descendants(read_parents(), os.getpid())) - spare()
        waited = time.monotonic() - start
        if not found or waited >= timeout:
            return
        if waited >= patience:
            stopped &= found
            if stopped < found and rounds < MAX_ROUNDS:
                _signal(signal.SIGSTOP, found - stopped)
                stopped, rounds = found, rounds + 1
                continue
            _signal(signal.SIGKILL, found)
        time.sleep(POLL_SECONDS)


def _signal(signum: int, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def is_descendant(pid: int) -> bool:
    """Return whether a process is alive and a descendant of this one."""
    return pid in descendants(read_parents(), os.getpid())


def descendants(parents: Mapping[int, int], root: int) -> List[int]:
    """Return all descendants of a process, parents before children.

    Args:
        parents: the parent of each process.
        root: the process itself, which is not returned.
    """
    children: Dict[int, List[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: List[int] = []
    waiting = [root]
    while waiting:
        offspring = children.pop(waiting.pop(), [])
        found += offspring
        waiting += offspring
    return found


def read_parents() -> Dict[int, int]:
    """Return the parent of every visible process, without zombies."""
    parents: Dict[int, int] = {}
    for name in os.listdir("/proc"):  # names, cheaper than path objects
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                stat = file.read()
        except OSError:
            continue
        # the name of the program, in parentheses, may hold anything (proc_pid_stat(5))
        state, parent = stat[stat.rindex(b")") + 1 :].split()[:2]
        if state not in (b"Z", b"X"):
            parents[int(name)] = int(parent)
    return parents
