"""Memory of other processes: how much they take, and which one the system ends first."""

from __future__ import annotations

import os
from typing import Optional

EXPENDABLE = "1000"
"""The `oom_score_adj` of a process that is ended before all others."""
BEFORE_AGENT = 100
"""How much more expendable than its agent a kernel is: by a tenth of the memory that there is. The
agent takes less, its log included."""
MAX_SCORE = 999


def own_bytes(pid: int) -> int:
    """Return the memory that a process has to itself, without files; 0 if it is not known."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            _, resident, shared = file.read().split()[:3]
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def physical_bytes() -> int:
    """Return the memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def make_expendable(pid: int) -> Optional[str]:
    """Have a process end first when memory runs out; return what to set later, None if it fails."""
    try:
        with open(_score_file(pid), encoding="ascii") as file:
            former = file.read().strip()
        set_oom_score(pid, EXPENDABLE)
    except OSError:
        return None
    return former


def end_before_agent(pid: int) -> None:
    """Have a process, and those that it starts, end before the agent when memory runs out."""
    try:
        with open(_score_file(os.getpid()), encoding="ascii") as file:
            own = int(file.read())
        set_oom_score(pid, str(min(own + BEFORE_AGENT, MAX_SCORE)))
    except (OSError, ValueError):
        pass  # as it was


def set_oom_score(pid: int, score: str) -> None:
    """Set how soon a process is ended when memory runs out, proc_pid_oom_score_adj(5).

    Raises:
        OSError: it is not permitted, or the process is gone.
    """
    with open(_score_file(pid), "w", encoding="ascii") as file:
        file.write(score)


def _score_file(pid: int) -> str:
    return f"/proc/{pid}/oom_score_adj"
