"""The table of `kernels list`."""

from datetime import UTC, datetime, timedelta

import pytest

from enterprise_gateway.app.commands.kernels import COLUMNS, KernelRow, format_age
from enterprise_gateway.app.commands.list_command import format_table

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
ROW = KernelRow(
    id="k",
    name="python_docker",
    execution_state="dead",
    username="bob@example.org",
    connections=0,
    created="2026-01-02T09:00:00.000000Z",
    last_activity="2026-01-02T11:57:00.000000Z",
    workload="bob--40example--2eorg-k",
    image="localhost/enterprise-gateway/kernel-py:0.1.0",
    node="node-2",
    reason="exit code 137\n(out of memory)\x1b[31m",
)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s ago"), (59, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (172800, "2 d ago")],
)
def test_moment_is_told_as_people_tell_it(seconds: int, said: str) -> None:
    """In the largest unit of which there is one."""
    assert format_age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == said


@pytest.mark.parametrize("moment", ["", "yesterday", "2026-01-02T11:57:00"])
def test_moment_that_is_none_is_not_told(moment: str) -> None:
    """An agent may send text that is not a time."""
    assert format_age(moment, NOW) == ""


def test_clock_that_is_ahead_does_not_tell_of_the_future() -> None:
    """Engines have clocks of their own."""
    assert format_age((NOW + timedelta(hours=1)).isoformat(), NOW) == "0 s ago"


def test_row_says_who_runs_what_where_and_why_it_ended() -> None:
    """The user as the user writes it; nothing that a terminal would take for a command."""
    header, row = format_table([COLUMNS, ROW.cells(NOW)]).splitlines()
    assert header.split()[:4] == ["KERNEL", "ID", "KERNELSPEC", "STATE"]
    for text in ("bob@example.org", "3 h ago", "3 min ago", "node-2", "kernel-py:0.1.0"):
        assert text in row
    assert row.endswith("exit code 137 (out of memory)\N{REPLACEMENT CHARACTER}[31m")
    assert format_table([["A"], [""]]) == "A\n-"
