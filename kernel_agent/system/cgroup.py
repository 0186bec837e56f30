"""The own control group, version 1 or 2: its memory limit, and kills for want of memory."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

PROC_CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""Version 1 has a number near 2**63 where there is no limit."""


class OomCounter:
    """Counter of OOM kills in the own control group."""

    def __init__(self, proc_cgroup: Path = PROC_CGROUP, root: Path = CGROUP_ROOT) -> None:
        self._file = _find_counter_file(proc_cgroup, root)
        self._base = self._read()

    def has_increased(self) -> bool:
        """Return whether the counter increased since the last call."""
        count = self._read()
        increased = count > self._base
        self._base = count
        return increased

    def discount(self) -> None:
        """Ignore one kill, if there was one: that of a process which is not the kernel's."""
        if self._read() > self._base:
            self._base += 1

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            return parse_oom_kills(self._file.read_text())
        except OSError:
            return 0


def memory_limit(proc_cgroup: Path = PROC_CGROUP, root: Path = CGROUP_ROOT) -> Optional[int]:
    """Return the lowest memory limit of the own control group and those above it; None: none."""
    limits = []
    for file in _limit_files(proc_cgroup, root):
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < UNLIMITED:
            limits.append(int(text))
    return min(limits, default=None)


def parse_oom_kills(text: str) -> int:
    """Return `oom_kill` of a `memory.events` or `memory.oom_control` file, 0 if it has none."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdecimal():
            return int(value)
    return 0


def group_folders(
    controller: str, proc_cgroup: Path = PROC_CGROUP, root: Path = CGROUP_ROOT
) -> List[Path]:
    """Return where the own control group of a controller may be, most specific first.

    In a container the path in /proc/self/cgroup may be the host's while the mount shows the
    container's own group as root.

    Args:
        controller: its name in version 1, such as `memory`; version 2 has one group for all.
        proc_cgroup: that file.
        root: where control groups are mounted.
    """
    try:
        text = proc_cgroup.read_text()
    except OSError:
        return []
    folders: List[Path] = []
    for line in text.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            folders += [root / controller / path.lstrip("/"), root / controller]
        elif line.startswith("0::"):
            folders += [root / path.lstrip("/"), root]
    return folders


def counter_candidates(proc_cgroup: str, root: Path) -> List[Path]:
    """Return candidates for the counter's file by /proc/self/cgroup, most specific first.

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


def _limit_files(proc_cgroup: Path, root: Path) -> List[Path]:
    """Return the limits' files of the own control group and those above it, if they exist."""
    try:
        text = proc_cgroup.read_text()
    except OSError:
        return []
    files: List[Path] = []
    for counter in counter_candidates(text, root):
        name = "memory.max" if counter.name == "memory.events" else "memory.limit_in_bytes"
        for folder in (counter.parent, *counter.parent.parents):
            files.append(folder / name)
            if folder == root:
                break
    return files


def _find_counter_file(proc_cgroup: Path, root: Path) -> Optional[Path]:
    try:
        text = proc_cgroup.read_text()
    except OSError:
        return None
    return next((path for path in counter_candidates(text, root) if path.is_file()), None)
