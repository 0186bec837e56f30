"""Log lines have the format of Enterprise Gateway, or are JSON."""

import json
import logging
import sys

import pytest

from enterprise_gateway.app.logs import (
    DEFAULT_FORMAT,
    ColorFormatter,
    JsonFormatter,
    LineFormatter,
    RequestContext,
)
from enterprise_gateway.services.request_scope import RequestScope, serving, set_kernel


def make_record(message: str = "Kernel %s started", *args: object) -> logging.LogRecord:
    """Make a log record as a logger would."""
    return logging.LogRecord("eg.test", logging.INFO, __file__, 1, message, args or ("k",), None)


def test_text_line_has_level_time_and_logger() -> None:
    """The default format is Enterprise Gateway's."""
    line = LineFormatter(DEFAULT_FORMAT, "%H:%M:%S").format(make_record())
    assert line.startswith("[I ")
    assert line.endswith(" eg.test] Kernel k started")


def test_color_is_for_terminals_only() -> None:
    """A file gets no escape sequences."""
    assert "\033" in ColorFormatter(DEFAULT_FORMAT).format(make_record())
    assert "\033" not in LineFormatter(DEFAULT_FORMAT).format(make_record())


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


@pytest.mark.parametrize(
    "text",
    [
        "died\n[I 00:00:00 access] 200 GET /forged",
        "\r200",
        "\x1b[2J",
        "\x9b2J",
        "\x00\x7f",
        "a\u2028b\u2029c\x85d",
        "\u202eevil\u2066\u200f\u061c",
    ],
    ids=ascii,
)
@pytest.mark.parametrize(
    "formatter", [LineFormatter(DEFAULT_FORMAT), ColorFormatter("%(message)s")]
)
def test_message_cannot_write_lines_of_its_own(formatter: logging.Formatter, text: str) -> None:
    """Text of agents, kernels and clients stays on one line and cannot control a terminal."""
    line = formatter.format(make_record("Kernel %s died: %s", "k", text))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert repr(text)[1:-1] in line


def test_traceback_is_not_escaped() -> None:
    """It is the program's own, and read by people."""
    record = make_record("failed\n%s")
    try:
        int("wrong")
    except ValueError:
        record.exc_info = sys.exc_info()
    lines = LineFormatter(DEFAULT_FORMAT).format(record).splitlines()
    assert lines[0].endswith("failed\\nk")
    assert lines[1].startswith("Traceback")
    assert len(lines) > 3


def test_lines_of_a_request_have_its_id() -> None:
    """In both formats, with the user once that is known; outside of requests there is none."""
    context = RequestContext()
    with serving(RequestScope("r-1")):
        early, late = make_record(), make_record()
        assert context.filter(early)
        set_kernel("k", "ann\n")
        assert context.filter(late)
    text = LineFormatter(DEFAULT_FORMAT)
    assert text.format(early).endswith(" Kernel k started request=r-1")
    assert text.format(late).endswith(" Kernel k started user=ann\\n request=r-1")
    fields = json.loads(JsonFormatter().format(late))
    assert (fields["user"], fields["request_id"]) == ("ann\n", "r-1")
    other = make_record()
    set_kernel("k", "bob")
    assert context.filter(other)
    assert "request" not in text.format(other)
    assert "request_id" not in json.loads(JsonFormatter().format(other))
