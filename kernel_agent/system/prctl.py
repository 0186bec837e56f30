"""Sets two attributes of the agent's own process by prctl(2)."""

from __future__ import annotations

import ctypes

PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36


def hide_process() -> bool:
    """Make the own process non-dumpable; return whether that worked.

    Its files in /proc, the initial environment with the token among them, then belong to root, and
    it cannot be traced: the kernel's code, which runs as the same user, cannot read the agent's
    memory. Programs that it executes are not affected.
    """
    return _set(PR_SET_DUMPABLE, 0)


def adopt_orphans() -> bool:
    """Have orphaned descendants become children of this process; return whether that worked.

    PID 1 of a container adopts them by nature; an agent beside or below another init process needs
    this.
    """
    return _set(PR_SET_CHILD_SUBREAPER, 1)


def _set(option: int, value: int) -> bool:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False
