"""The files of local kernels: each has a record, a log, a socket and a folder.

All are in one folder, except for sockets whose paths would be too long. Only the gateway's user may
enter the folder. A record is written atomically and holds no secret: the agent's token is derived
from the cluster secret when it is needed.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import stat
import time
from pathlib import Path

import msgspec

from enterprise_gateway.errors import UNREADABLE_JSON, ConfigurationError
from enterprise_gateway.services.processproxies.local.processes import ProcessIdentity

_MAX_SOCKET_PATH_BYTES = 107
"""sun_path of unix(7), less the terminating zero."""
_SOCKET_SUFFIX = ".sock"
_RECORD_SUFFIX = ".kernel"
_LOG_SUFFIX = ".log"
_AGENT_SUFFIX = ".agent"
_STRAY_SUFFIXES = frozenset({_SOCKET_SUFFIX, _LOG_SUFFIX, _AGENT_SUFFIX, ".tmp"})
_STRAY_AGE_SECONDS = 120.0
"""A younger file may belong to a kernel that another gateway is launching."""
_KERNEL_ID_CHARS = 36
_KERNEL_ID = re.compile(r"[0-9a-zA-Z-]{1,64}")

_log = logging.getLogger(__name__)


class LocalRecord(msgspec.Struct, frozen=True):
    """One local kernel."""

    kernel_id: str
    name: str
    username: str
    created: float
    socket_path: str
    mark: str
    """A value in the environment of all the kernel's processes."""
    process: ProcessIdentity
    launch_id: str = ""
    """As in `Workload`, and so is the next."""
    pool: str = ""
    groups: frozenset[str] = frozenset()
    """As in `Usage`."""


class LocalRecords:
    """The records in one folder. All methods block on the local disk."""

    def __init__(self, folder: Path, temp_folder: Path) -> None:
        self._folder = folder
        self._temp_folder = temp_folder
        self._sockets = folder

    def prepare(self) -> None:
        """Create the folders, private to this user.

        Raises:
            ConfigurationError: a folder cannot be created, or belongs to another user.
        """
        _make_private(self._folder)
        longest = len(os.fsencode(self._folder)) + 1 + _KERNEL_ID_CHARS + len(_SOCKET_SUFFIX)
        if longest > _MAX_SOCKET_PATH_BYTES:
            digest = hashlib.sha256(os.fsencode(self._folder.resolve())).hexdigest()[:16]
            self._sockets = self._temp_folder / f"eg-{os.getuid()}-{digest}"
            _make_private(self._sockets)

    def remove_strays(self) -> None:
        """Remove files of kernels without a record: their gateway was killed during the launch.

        Their agents, if they were started, have ended because they could not report.
        """
        known = {record.kernel_id for record in self.read_all()}
        for folder in {self._folder, self._sockets}:
            for path in folder.iterdir():
                stray = path.suffix in _STRAY_SUFFIXES and path.stem not in known
                with contextlib.suppress(FileNotFoundError):
                    if stray and time.time() - path.lstat().st_mtime > _STRAY_AGE_SECONDS:
                        _remove(path)

    def close(self) -> None:
        """Remove a separate folder for sockets if it is empty; `prepare` creates it again."""
        if self._sockets != self._folder:
            with contextlib.suppress(OSError):
                self._sockets.rmdir()

    def socket_path(self, kernel_id: str) -> Path:
        """Return the path of the socket for a new agent."""
        return self._sockets / f"{kernel_id}{_SOCKET_SUFFIX}"

    def log_path(self, kernel_id: str) -> Path:
        """Return the path of a kernel's log."""
        return self._folder / f"{kernel_id}{_LOG_SUFFIX}"

    def agent_folder(self, kernel_id: str) -> Path:
        """Return the path of the folder for the files of an agent."""
        return self._folder / f"{kernel_id}{_AGENT_SUFFIX}"

    def make_files(self, kernel_id: str) -> int:
        """Make the folder and the log of a new agent; return the log's descriptor."""
        self.agent_folder(kernel_id).mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        return os.open(self.log_path(kernel_id), flags, 0o600)

    def write(self, record: LocalRecord) -> None:
        """Write a record atomically."""
        target = self._folder / f"{record.kernel_id}{_RECORD_SUFFIX}"
        draft = target.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(record))
        draft.replace(target)

    def read(self, kernel_id: str) -> LocalRecord | None:
        """Return a kernel's record, None if there is none. The id need not be valid."""
        if not _KERNEL_ID.fullmatch(kernel_id):
            return None
        try:
            data = (self._folder / f"{kernel_id}{_RECORD_SUFFIX}").read_bytes()
        except OSError:
            return None
        try:
            return msgspec.json.decode(data, type=LocalRecord)
        except UNREADABLE_JSON:
            _log.warning("The record of local kernel %s is unreadable and is ignored", kernel_id)
            return None

    def read_all(self) -> list[LocalRecord]:
        """Return all records."""
        names = sorted(path.stem for path in self._folder.glob(f"*{_RECORD_SUFFIX}"))
        return [record for name in names if (record := self.read(name)) is not None]

    def read_log(self, kernel_id: str, max_bytes: int) -> str:
        """Return the tail of a kernel's log, "" if there is none. The id need not be valid."""
        if not _KERNEL_ID.fullmatch(kernel_id):
            return ""
        try:
            with self.log_path(kernel_id).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - max_bytes))
                return file.read(max_bytes).decode(errors="replace")
        except OSError:
            return ""

    def remove(self, kernel_id: str) -> None:
        """Remove all files of a kernel, the record last; harmless if there are none."""
        for path in (
            self.log_path(kernel_id),
            self.socket_path(kernel_id),
            self.agent_folder(kernel_id),
            self._folder / f"{kernel_id}{_RECORD_SUFFIX}",
        ):
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a file or a folder, from which an ending agent may be removing files, too."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise ConfigurationError(
                f"{folder} must belong to the gateway's user: it holds sockets of local kernels."
            )
        folder.chmod(0o700)
    except OSError as exc:
        raise ConfigurationError(
            f"The folder {folder} for local kernels cannot be created: {exc.strerror}."
        ) from exc
