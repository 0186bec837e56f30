"""How log lines look: Enterprise Gateway's format, or JSON lines."""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from traitlets.config import Config

FORMAT = "%(color)s[%(levelname)1.1s %(asctime)s.%(msecs).03d %(name)s]%(end_color)s %(message)s"
"""Enterprise Gateway's default; `color` and `end_color` are set only on a terminal."""

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
}


class NoConfiguration(logging.Filter):
    """Drops the line in which traitlets, at DEBUG, writes down a configuration, token and all."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let all others through."""
        return not isinstance(record.args, Config)  # logging unwraps a mapping that is alone


class LineFormatter(logging.Formatter):
    """Text lines; `%(color)s` and `%(end_color)s` may stand in the format, and are empty."""

    colors: Mapping[int, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        """Format the record, in the colour of its level."""
        color = self.colors.get(record.levelno, "")
        vars(record).update(color=color, end_color=_END_COLOR if color else "")
        return super().format(record)


class ColorFormatter(LineFormatter):
    """Text lines for a terminal."""

    colors = _COLORS


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    Its keys: `time` (RFC 3339), `level`, `logger`, `message`, extra fields, and `exception`.
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
