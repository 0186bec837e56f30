"""Formats of log lines: that of Enterprise Gateway, or JSON."""

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from traitlets.config import Config

from enterprise_gateway.services.request_scope import current_scope

DEFAULT_FORMAT = (
    "%(color)s[%(levelname)1.1s %(asctime)s.%(msecs).03d %(name)s]%(end_color)s "
    "%(message)s%(request)s"
)
"""The default of Enterprise Gateway, followed by the request's user and id.

`color` and `end_color` are set only on a terminal, `request` only while a request is served.
"""

_COLORS = {
    logging.DEBUG: "\033[34m",
    logging.INFO: "\033[32m",
    logging.WARNING: "\033[33m",
    logging.ERROR: "\033[31m",
    logging.CRITICAL: "\033[35m",
}
_END_COLOR = "\033[0m"
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color",
    "end_color",
    "request",
}
_CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""C0, DEL, C1, line separators, and controls of the direction of text (Unicode UAX #9)."""


class NoConfiguration(logging.Filter):
    """Drops the record in which traitlets logs the configuration, with the token, at DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is another one."""
        return not isinstance(record.args, Config)  # logging unwraps a mapping that is alone


class RequestContext(logging.Filter):
    """Gives each record the `request_id` and `user` of the request that is being served."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes; every record passes."""
        scope = current_scope()
        if scope is not None:
            record.request_id = scope.request_id
            if scope.user:
                record.user = scope.user
        return True


def escape_controls(text: str) -> str:
    """Escape characters that would end the line or control the terminal that shows it."""
    return _CONTROL_CHARACTERS.sub(lambda found: repr(found[0])[1:-1], text)


class LineFormatter(logging.Formatter):
    """Formats a record as one line of text, followed by its traceback.

    The format may contain `%(color)s` and `%(end_color)s`, which are empty here, and
    `%(request)s`, which is ` user=<name> request=<id>` as far as these are known. Control
    characters in messages are escaped, because messages quote agents, kernels and clients.
    """

    colors: Mapping[int, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        """Format the record in the colour of its level."""
        color = self.colors.get(record.levelno, "")
        user, request_id = vars(record).get("user"), vars(record).get("request_id")
        vars(record).update(
            color=color,
            end_color=_END_COLOR if color else "",
            request=(f" user={escape_controls(user)}" if user else "")
            + (f" request={request_id}" if request_id else ""),
        )
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Format the line without the traceback."""
        record.message = escape_controls(record.message)
        return super().formatMessage(record)


class ColorFormatter(LineFormatter):
    """Formats records as text for a terminal."""

    colors = _COLORS


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object per line.

    The keys: `time` (RFC 3339), `level`, `logger`, `message`, extra fields such as `request_id`,
    and `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD_FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def logging_config(base: dict[str, Any], name: str, *, as_json: bool) -> dict[str, Any]:
    """Return the logging configuration of the application for the whole process.

    This package's loggers, and warnings of all others, get the application's handler.

    Args:
        base: the configuration that traitlets makes for the application's own logger.
        name: name of that logger.
        as_json: whether log lines are JSON objects.
    """
    if as_json:
        formatter: type = JsonFormatter
    else:
        formatter = ColorFormatter if sys.stderr.isatty() else LineFormatter
    base["formatters"]["console"]["class"] = f"{formatter.__module__}.{formatter.__qualname__}"
    base["loggers"][name]["propagate"] = False
    base["loggers"]["enterprise_gateway"] = {
        "level": "DEBUG",
        "handlers": ["console"],
        "propagate": False,
    }
    # it has a file of its own, or none: see enterprise_gateway.web.audit
    base["loggers"]["enterprise_gateway.audit"] = {"level": "INFO", "propagate": False}
    base["root"] = {"level": "WARNING", "handlers": ["console"]}
    base["filters"] = {"no_config": {"()": NoConfiguration}, "request": {"()": RequestContext}}
    base["handlers"]["console"]["filters"] = ["no_config", "request"]
    return base


def expect_format(text: str) -> None:
    """Make sure that a format of log lines can be used.

    Raises:
        ValueError: it cannot. The logging module may raise other exceptions, too.
    """
    LineFormatter(text).format(logging.makeLogRecord({}))
