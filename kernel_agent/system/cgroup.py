"""The own control group, version 1 or 2: its limits, and what was refused because of them."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Tuple

PROC_CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""Version 1 has a number near 2**63 where there is no limit."""


class Controller(NamedTuple):
    """A controller of control groups, with the file in which it counts events."""

    name: str
    v1_file: str
    v2_file: str
    key: str
    """The counter in the file."""


MEMORY = Controller("memory", "memory.oom_control", "memory.events", "oom_kill")
PIDS = Controller("pids", "pids.events", "pids.events", "max")


class EventCounter:
    """Counter of events in the own control group."""

    controller: Controller

    def __init__(self, proc_cgroup: Path = PROC_CGROUP, root: Path = CGROUP_ROOT) -> None:
        self._file = _find_counter_file(proc_cgroup, root, self.controller)
        self._base = self._read()

    @property
    def is_ahead(self) -> bool:
        """Whether `has_increased` would return true."""
        return self._read() > self._base

    def has_increased(self) -> bool:
        """Return whether the counter increased since the last call."""
        count = self._read()
        increased = count > self._base
        self._base = count
        return increased

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            return parse_events(self._file.read_text(), self.controller.key)
        except OSError:
            return 0


class OomCounter(EventCounter):
    """Counter of processes that were killed because memory ran out."""

    controller = MEMORY

    def discount(self) -> None:
        """Ignore one kill, if there was one: that of a process which is not the kernel's."""
        if self.is_ahead:
            self._base += 1


class PidsCounter(EventCounter):
    """Counter of processes and threads that were not started, as there were too many."""

    controller = PIDS

    @property
    def limit(self) -> Optional[int]:
        """How many there may be; None if that is not known."""
        if self._file is None:
            return None
        try:
            text = self._file.with_name("pids.max").read_text().strip()
        except OSError:
            return None
        return int(text) if text.isdecimal() else None


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


def parse_events(text: str, key: str) -> int:
    """Return a counter of a file such as `memory.events`, 0 if it has none of that name."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdecimal():
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
    return [folder for folder, _ in _groups(text, root, controller)]


def counter_candidates(proc_cgroup: str, root: Path, controller: Controller = MEMORY) -> List[Path]:
    """Return candidates for the counter's file by /proc/self/cgroup; see `group_folders`."""
    return [
        folder / (controller.v2_file if is_v2 else controller.v1_file)
        for folder, is_v2 in _groups(proc_cgroup, root, controller.name)
    ]


def _groups(proc_cgroup: str, root: Path, controller: str) -> Iterator[Tuple[Path, bool]]:
    """Yield each folder that may be the own control group, and whether it is of version 2."""
    for line in proc_cgroup.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            base, is_v2 = root / controller, False
        elif line.startswith("0::"):
            base, is_v2 = root, True
        else:
            continue
        yield base / path.lstrip("/"), is_v2
        yield base, is_v2


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


def _find_counter_file(proc_cgroup: Path, root: Path, controller: Controller) -> Optional[Path]:
    try:
        text = proc_cgroup.read_text()
    except OSError:
        return None
    candidates = counter_candidates(text, root, controller)
    return next((path for path in candidates if path.is_file()), None)
