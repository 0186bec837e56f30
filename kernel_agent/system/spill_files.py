"""Files without a name, for the part of the log that the memory has no room for.

No other process can open them: they have no name, and `/proc/PID/fd` of a hidden process
(`system.prctl`) belongs to root. What is freed leaves the disk file by file.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Dict, Iterable, NamedTuple, Optional, Sequence

FILE_BYTES = 32 * 1024 * 1024
"""Size from which on the next file is begun."""
JOIN_MAX_BYTES = 1024 * 1024
"""What is larger is written piece by piece, since joining it would take as much memory again."""
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
MOUNTS = Path("/proc/self/mountinfo")

_log = logging.getLogger(__name__)


class _File:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = 0
        self.parts = 0
        """How many parts of it are not freed."""


class _Part(NamedTuple):
    file: _File
    offset: int
    size: int


class SpillFiles:
    """Implements `wire.segments.Spill`. What cannot be written or read is logged once."""

    def __init__(self, folder: str) -> None:
        """Prepare; files are made when they are needed."""
        self._folder = folder
        self._current: Optional[_File] = None
        self._parts: Dict[int, _Part] = {}
        self._last_location = 0
        self._is_failure_logged = False

    def write(self, pieces: Sequence[bytes]) -> Optional[int]:
        """Write at the end of the current file."""
        try:
            file = self._file()
            end = file.size
            is_small = sum(map(len, pieces)) <= JOIN_MAX_BYTES
            for chunk in (b"".join(pieces),) if is_small else pieces:
                end = _write_all(file.descriptor, chunk, end)
        except OSError as exc:
            self._log_failure("written", exc)
            return None
        self._last_location += 1
        self._parts[self._last_location] = _Part(file, file.size, end - file.size)
        file.size = end
        file.parts += 1
        return self._last_location

    def read(self, location: int) -> Optional[bytes]:
        """Read a part."""
        part = self._parts[location]
        data = b""
        try:
            data = os.pread(part.file.descriptor, part.size, part.offset)
            while 0 < len(data) < part.size:
                more = os.pread(
                    part.file.descriptor, part.size - len(data), part.offset + len(data)
                )
                if not more:
                    break
                data += more
        except OSError as exc:
            self._log_failure("read", exc)
            return None
        return data if len(data) == part.size else None

    def free(self, location: int) -> None:
        """Close a file, which removes it, when its last part is freed."""
        file = self._parts.pop(location).file
        file.parts -= 1
        if not file.parts:
            os.close(file.descriptor)
            if file is self._current:
                self._current = None

    def _file(self) -> _File:
        """Return the file to write to."""
        current = self._current
        if current is None or current.size >= FILE_BYTES:
            current = self._current = _File(_open_nameless(self._folder))
        return current

    def _log_failure(self, what: str, exc: OSError) -> None:
        if not self._is_failure_logged:
            self._is_failure_logged = True
            _log.warning(
                "the part of the kernel's log on disk (%s) cannot be %s: %s; clients that are away "
                "for long may miss output",
                self._folder,
                what,
                exc.strerror,
            )


def find_folder(candidates: Iterable[str], mounts: Path = MOUNTS) -> Optional[str]:
    """Return the first folder on a disk in which files can be made; None if there is none."""
    try:
        table = mounts.read_text()
    except OSError:
        return None
    for folder in candidates:
        if file_system(os.path.realpath(folder), table) in IN_MEMORY:
            continue
        try:
            os.close(_open_nameless(folder))
        except OSError:
            continue
        return folder
    return None


def file_system(path: str, mounts: str) -> str:
    """Return the type of the file system of an absolute path, by a table as in proc(5)."""
    best, found = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = fields[4].replace("\\040", " ")
        is_above = point in ("/", path) or path.startswith(point + "/")
        if is_above and len(point) >= best:  # of several mounts at one place the last counts
            best, found = len(point), after.split(" ")[0]
    return found


def _open_nameless(folder: str) -> int:
    """Open a new file that has no name.

    Raises:
        OSError: the folder takes none.
    """
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        path = f"{folder}/{os.urandom(16).hex()}"  # some file systems know no files without a name
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        return descriptor


def _write_all(descriptor: int, data: bytes, offset: int) -> int:
    """Write at an offset; return the offset behind it."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
    return offset
