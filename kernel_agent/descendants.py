"""All processes that came from this one, whatever sessions and process groups they made."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import AbstractSet, Dict, List, Mapping, Set

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Have orphaned descendants become children of this process; return whether that worked.

    PID 1 of a container has that by nature, an agent beside or below another init process needs
    prctl(2).
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def signal_descendants(signum: int, spare: AbstractSet[int] = frozenset()) -> None:
    """Signal all descendants but those to spare.

    Those that are forked meanwhile are signalled too: it looks again until it finds nobody new.
    """
    signalled: Set[int] = set(spare)
    while True:
        found = set(descendants(read_parents(), os.getpid())) - signalled
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signum)
        signalled |= found


def is_descendant(pid: int) -> bool:
    """Return whether a process is alive and came from this one."""
    return pid in descendants(read_parents(), os.getpid())


def descendants(parents: Mapping[int, int], root: int) -> List[int]:
    """Return all descendants of a process, parents before children.

    Args:
        parents: the parent of each process.
        root: the process, which is not returned.
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
    """Return the parent of every process that can be seen, without those that have ended."""
    parents: Dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  # a name each, not a path object
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123  # as above
                stat = file.read()
        except OSError:
            continue
        # the name of the program, in parentheses, may hold anything (proc_pid_stat(5))
        state, parent = stat[stat.rindex(b")") + 1 :].split()[:2]
        if state not in (b"Z", b"X"):
            parents[int(name)] = int(parent)
    return parents
