"""The audit log: who did what to which kernel from where, one JSON object a line.

It has what starts, uses, changes and ends kernels and sessions, and what was refused; reads that
succeed are no part of it. A line is written when the outcome is known, so that of a stream when it
begins.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from logging.handlers import WatchedFileHandler
from typing import IO

from aiohttp import web

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.request_scope import RequestScope
from enterprise_gateway.web.accesslog import REMOTE, SCOPE, scrub_path
from enterprise_gateway.web.errors import Handler
from enterprise_gateway.web.mount import route_path

MAX_PATH_CHARS = 1000
FILE_MODE = 0o640

_KERNEL = "/api/kernels/{kernel_id}"
_SESSION = "/api/sessions/{session_id}"
EVENTS = {
    ("POST", "/api/kernels"): "start",
    ("DELETE", _KERNEL): "delete",
    ("POST", f"{_KERNEL}/interrupt"): "interrupt",
    ("POST", f"{_KERNEL}/restart"): "restart",
    ("PUT", f"{_KERNEL}/shares"): "share",
    ("GET", f"{_KERNEL}/channels"): "connect",
    ("POST", f"{_KERNEL}/execute"): "execute",
    ("POST", f"{_KERNEL}/executions/{{msg_id}}/input"): "input",
    ("POST", "/api/sessions"): "session_create",
    ("PATCH", _SESSION): "session_change",
    ("DELETE", _SESSION): "session_delete",
}
"""By method and route. Other requests are written only if they are refused, as `request`."""

_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
_audit = logging.getLogger("enterprise_gateway.audit")
_log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a request."""

    OK = "ok"
    REFUSED = "refused"
    """The user may not; the status is 404 if they may not even know."""
    FAILED = "failed"
    ABORTED = "aborted"
    """The client left before it was answered; what it asked for may go on."""


@dataclass(slots=True)
class Entry:
    """The request that a line is about.

    Attributes:
        event: What it asks for.
        is_written: Whether its line is written.
        is_connected: Whether it has become a WebSocket.
    """

    event: str
    is_written: bool = False
    is_connected: bool = False
    begun: float = field(default_factory=time.monotonic)


ENTRY: web.RequestKey[Entry] = web.RequestKey("audit_entry", Entry)


class AuditLog:
    """Writes a line for each request that counts."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve a request, and write its line unless it was written meanwhile."""
        if not (_audit.isEnabledFor(logging.INFO) and _audit.hasHandlers()):
            return await handler(request)
        entry = request[ENTRY] = Entry(self._event(request))
        try:
            response = await handler(request)
        except BaseException:
            _write_end(request, entry, None)
            raise
        _write_end(request, entry, response.status)
        return response

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Write the line of a request whose answer begins: that may take long to end."""
        entry = request.get(ENTRY)
        if entry is not None and not entry.is_written:
            _write_start(request, entry, response.status)

    def _event(self, request: web.Request) -> str:
        if request.match_info.route.resource is None:
            return "request"
        return EVENTS.get((request.method, route_path(request, self._base_url)), "request")


def note_connection(request: web.Request) -> None:
    """Write the line of a request that has become a WebSocket, whose end gets another one."""
    entry = request.get(ENTRY)
    if entry is not None:
        _write_start(request, entry, HTTPStatus.SWITCHING_PROTOCOLS)


@contextmanager
def audit_file(path: str) -> Iterator[None]:
    """Write the audit log to a file in this context; "": there is none.

    A file that was renamed or removed is opened anew, so logrotate needs no signal.

    Raises:
        ConfigurationError: It cannot be opened.
    """
    if not path:
        yield
        return
    try:
        handler = _AuditFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as exc:
        raise ConfigurationError(
            f"The file of the audit log (audit_log) cannot be opened: {exc}."
        ) from exc
    _audit.setLevel(logging.INFO)
    _audit.propagate = False
    _audit.addHandler(handler)
    try:
        yield
    finally:
        _audit.removeHandler(handler)
        handler.close()


class _AuditFile(WatchedFileHandler):
    """Tells the operator once if a line cannot be written, and goes on."""

    _is_failing = False
    _has_failed = False
    """Whether the line at hand has."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self._has_failed = False
        try:
            super().emit(record)
        except OSError:  # it cannot be opened anew
            self.handleError(record)
        self._is_failing = self._has_failed

    def _open(self) -> IO[str]:  # type: ignore[override] # the base class returns a TextIOWrapper
        return open(
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            errors=self.errors,
            opener=lambda path, flags: os.open(path, flags, FILE_MODE),
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Log the first of several failures."""
        del record
        self._has_failed = True
        if not self._is_failing:
            _log.error(
                "The audit log %s cannot be written: %s. Lines are lost until it can.",
                self.baseFilename,
                sys.exc_info()[1],
            )


def _write_start(request: web.Request, entry: Entry, status: int) -> None:
    entry.is_written = True
    entry.is_connected = status == HTTPStatus.SWITCHING_PROTOCOLS
    outcome = _outcome(request, status)
    if entry.event != "request" or outcome is Outcome.REFUSED:
        _write(request, entry, outcome, status)


def _write_end(request: web.Request, entry: Entry, status: int | None) -> None:
    if entry.is_connected:
        entry.event = "disconnect"
        _write(request, entry, Outcome.OK, HTTPStatus.SWITCHING_PROTOCOLS)
    elif entry.is_written:
        return
    elif status is not None:
        _write_start(request, entry, status)
    elif entry.event != "request":
        _write(request, entry, Outcome.ABORTED, None)


def _outcome(request: web.Request, status: int) -> Outcome:
    scope = request.get(SCOPE)
    if status in _REFUSED or (scope is not None and scope.is_hidden):
        return Outcome.REFUSED
    return Outcome.OK if status < HTTPStatus.BAD_REQUEST else Outcome.FAILED


def _write(request: web.Request, entry: Entry, outcome: Outcome, status: int | None) -> None:
    scope = request.get(SCOPE) or RequestScope("")
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": entry.event,
        "outcome": outcome,
        "status": status,
        "user": scope.client or None,
        "credential": scope.credential or None,
        "kernel_id": scope.kernel_id or request.match_info.get("kernel_id", "")[:36] or None,
        "owner": scope.owner or None,
        "peer": request.get(REMOTE, request.remote),
        "request_id": scope.request_id,
        "seconds": round(time.monotonic() - entry.begun, 3),
        "method": request.method,
        "path": scrub_path(request.rel_url.raw_path)[:MAX_PATH_CHARS],
        **scope.details,
    }
    # ASCII alone: no character of a name can end the line or control a terminal
    _audit.info("%s", json.dumps(line, default=str))
