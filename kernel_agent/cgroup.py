"""Whether the out-of-memory killer struck in the own control group, version 1 or 2."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

PROC_CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")


class OomCounter:
    """Counts the OOM kills in the own control group since it was made."""

    def __init__(self, proc_cgroup: Path = PROC_CGROUP, root: Path = CGROUP_ROOT) -> None:
        self._file = _find_counter_file(proc_cgroup, root)
        self._base = self._read()

    def has_increased(self) -> bool:
        """Return whether the killer struck since this was last asked."""
        count = self._read()
        increased = count > self._base
        self._base = count
        return increased

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            return parse_oom_kills(self._file.read_text())
        except OSError:
            return 0


def parse_oom_kills(text: str) -> int:
    """Return `oom_kill` of a `memory.events` or `memory.oom_control` file, 0 if it has none."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdecimal():
            return int(value)
    return 0


def counter_candidates(proc_cgroup: str, root: Path) -> List[Path]:
    """Return where the counter may be, most specific first, given the text of /proc/self/cgroup.

    In a container the path in that file may be the host's while the mount shows the container's own
    group as root.
    """
    candidates: List[Path] = []
    for line in proc_cgroup.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if "memory" in controllers.split(","):
            base, name = root / "memory", "memory.oom_control"
        elif line.startswith("0::"):
            base, name = root, "memory.events"
        else:
            continue
        candidates += [base / path.lstrip("/") / name, base / name]
    return candidates


def _find_counter_file(proc_cgroup: Path, root: Path) -> Optional[Path]:
    try:
        text = proc_cgroup.read_text()
    except OSError:
        return None
    return next((path for path in counter_candidates(text, root) if path.is_file()), None)
