"""The sink that appends events to a file, one JSON object a line."""

import asyncio
import logging
import os
from pathlib import Path

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.events.bus import Subscription

MAX_WAITING = 10_000
REPORT_SECONDS = 60.0
"""The shortest time between two reports of a disk that does not take events."""

_MODE = 0o640
_log = logging.getLogger(__name__)


class EventFile:
    """A file that only grows, and that a program such as logrotate may move away."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            ConfigurationError: it cannot be written.
        """
        self._path = path
        self._is_torn = False
        try:
            self._file = self._open()
        except OSError as exc:
            raise ConfigurationError(f"Cannot write events to event_log {path}: {exc}.") from exc

    def append(self, lines: bytes) -> None:
        """Append lines, to a new file if the former one was moved or removed. Blocks.

        Raises:
            OSError: the file cannot be written. A part of the lines may be in it.
        """
        if self._is_moved():
            fresh = self._open()
            os.close(self._file)
            self._file, self._is_torn = fresh, False
        rest = memoryview(b"\n" + lines if self._is_torn else lines)
        while rest:
            self._is_torn = True  # until the last line has its end
            rest = rest[os.write(self._file, rest) :]
        self._is_torn = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)

    def _is_moved(self) -> bool:
        try:
            present = self._path.stat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(present, os.fstat(self._file))


async def write_lines(file: EventFile, subscription: Subscription) -> None:
    """Append the events of a subscription until it is closed, then close the file."""
    loop = asyncio.get_running_loop()
    next_report = 0.0
    try:
        while batch := await subscription.next_batch():
            lines = b"".join(entry.data + b"\n" for entry in batch)
            try:
                await asyncio.to_thread(file.append, lines)
            except OSError as exc:
                subscription.count_lost(len(batch))
                if loop.time() >= next_report:
                    next_report = loop.time() + REPORT_SECONDS
                    _log.error("Events are lost, since event_log cannot be written: %s", exc)
    finally:
        file.close()
