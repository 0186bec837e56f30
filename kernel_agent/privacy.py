"""Keeps the kernel's code, which runs as the same user, from reading the agent's memory."""

from __future__ import annotations

import ctypes

PR_SET_DUMPABLE = 4


def hide_process() -> bool:
    """Make the own process non-dumpable (prctl(2)); return whether that worked.

    Its files in /proc, the initial environment with the token among them, then belong to root, and
    it cannot be traced. Programs that it executes are not affected.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False
