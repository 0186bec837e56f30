"""Hours at which pools have other sizes."""

from datetime import UTC, datetime

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings.values.schedule import PAUSE, ScheduledSize, parse_schedule

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def hours(text: str) -> list[tuple[int, int]]:
    """Return the days of a week and the hours at which a text holds."""
    (scheduled,) = parse_schedule([text])
    moments = [
        MONDAY.replace(day=MONDAY.day + day, hour=hour) for day in range(7) for hour in range(24)
    ]
    return [(each.weekday(), each.hour) for each in moments if scheduled.holds(each)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mon 07:00-09:00 a=1", [(0, 7), (0, 8)]),
        ("Sat-Mon 08:00-09:00 a=1", [(0, 8), (5, 8), (6, 8)]),
        ("07:30-08:30 a=1", [(day, 8) for day in range(7)]),
        ("fri 22:00-02:00 a=1", [(4, 22), (4, 23), (5, 0), (5, 1)]),
        ("sun 23:00-01:00 a=1", [(0, 0), (6, 23)]),
        ("tue 22:00-24:00 a=1", [(1, 22), (1, 23)]),
        ("mon-fri 00:00-24:00 a=0", [(day, hour) for day in range(5) for hour in range(24)]),
    ],
)
def test_hours_hold_on_their_days(text: str, expected: list[tuple[int, int]]) -> None:
    """Those over midnight belong to the day on which they begin."""
    assert hours(text) == expected


def test_minutes_count() -> None:
    """The beginning is in the hours, the end is not."""
    (scheduled,) = parse_schedule(["12:15-12:45 Py_Docker=20", ""])
    assert scheduled == ScheduledSize(frozenset(range(7)), 735, 765, "py_docker", 20)
    (paused,) = parse_schedule(["07:00-08:00 py=PAUSE"])
    assert paused.size == PAUSE
    moments = [MONDAY.replace(hour=12, minute=minute) for minute in (14, 15, 44, 45)]
    assert [scheduled.holds(each) for each in moments] == [False, True, True, False]


@pytest.mark.parametrize(
    "text",
    [
        "py=2",
        "mon py=2",
        "monday 07:00-19:00 py=2",
        "7-19 py=2",
        "07:00-24:01 py=2",
        "07:60-09:00 py=2",
        "07:00-07:00 py=2",
        "07:00-19:00 py=many",
        "07:00-19:00 =2",
        "07:00-19:00 py",
    ],
)
def test_other_text_is_refused(text: str) -> None:
    """With an example of what is right."""
    with pytest.raises(ConfigurationError, match="'mon-fri 07:00-19:00 NAME=COUNT'"):
        parse_schedule([text])
