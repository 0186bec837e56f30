"""Log lines have the format of Enterprise Gateway, or are JSON."""

import json
import logging
import sys

from enterprise_gateway.app.logs import FORMAT, ColorFormatter, JsonFormatter, LineFormatter


def make_record(message: str = "Kernel %s started", *args: object) -> logging.LogRecord:
    """Make a log record as a logger would."""
    return logging.LogRecord("eg.test", logging.INFO, __file__, 1, message, args or ("k",), None)


def test_text_line_has_level_time_and_logger() -> None:
    """The default format is Enterprise Gateway's."""
    line = LineFormatter(FORMAT, "%H:%M:%S").format(make_record())
    assert line.startswith("[I ")
    assert line.endswith(" eg.test] Kernel k started")


def test_color_is_for_terminals_only() -> None:
    """A file gets no escape sequences."""
    assert "\033" in ColorFormatter(FORMAT).format(make_record())
    assert "\033" not in LineFormatter(FORMAT).format(make_record())


def test_json_line_is_one_object_on_one_line() -> None:
    """Every line is a JSON object, exceptions and extra fields included."""
    record = make_record("two\nlines %s", "x")
    record.kernel_id = "k1"
    try:
        int("wrong")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = JsonFormatter().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert fields["message"] == "two\nlines x"
    assert fields["level"] == "INFO"
    assert fields["logger"] == "eg.test"
    assert fields["kernel_id"] == "k1"
    assert fields["time"].endswith("+00:00")
    assert fields["exception"].endswith("'wrong'")
