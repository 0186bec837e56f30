"""Sizes of pools that hold at some hours. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from enterprise_gateway.errors import ConfigurationError

PAUSE: Literal["pause"] = "pause"
PoolSize = int | Literal["pause"]
"""How many kernels are kept ready; `PAUSE`: those that there are, and none is launched."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES = 24 * 60
_FORM = re.compile(
    rf"(?:(?P<first>{'|'.join(DAYS)})(?:-(?P<last>{'|'.join(DAYS)}))?\s+)?"
    r"(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)\s+(?P<name>[^\s=]+)=(?P<size>\d+|pause)",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ScheduledSize:
    """How many kernels of a kernelspec are kept ready at some hours of some days."""

    days: frozenset[int]
    """Those on which the hours begin; 0 is Monday."""
    begin: int
    """In minutes after midnight."""
    end: int
    """Likewise; not after `begin`: on the next day."""
    name: str
    size: PoolSize

    def holds(self, moment: datetime) -> bool:
        """Say whether a moment of the clock on the wall is in these hours."""
        minute = 60 * moment.hour + moment.minute
        if self.begin < self.end:
            return moment.weekday() in self.days and self.begin <= minute < self.end
        yesterday = (moment.weekday() - 1) % len(DAYS)
        is_late = moment.weekday() in self.days and minute >= self.begin
        return is_late or (yesterday in self.days and minute < self.end)


def parse_pool_size(text: str) -> PoolSize:
    """Parse a number, or `pause` in any case.

    Raises:
        ValueError: the text is neither.
    """
    if text.lower() == PAUSE:
        return PAUSE
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def parse_schedule(texts: Iterable[str]) -> tuple[ScheduledSize, ...]:
    """Parse `DAY-DAY HH:MM-HH:MM NAME=COUNT`, with names in lower case; days may be left out.

    Raises:
        ConfigurationError: a text has another form.
    """
    return tuple(_parse(text.strip()) for text in texts if text.strip())


def _parse(text: str) -> ScheduledSize:
    found = _FORM.fullmatch(text)
    begin, end = (_minutes(found[name]) if found else None for name in ("begin", "end"))
    if found is None or begin is None or end is None or begin == end:
        raise ConfigurationError(
            f"pool_schedule {text[:100]!r} is not of the form 'mon-fri 07:00-19:00 NAME=COUNT'."
        )
    first, last = found["first"], found["last"]
    return ScheduledSize(
        days=_days(first, last or first) if first else frozenset(range(len(DAYS))),
        begin=begin,
        end=end,
        name=found["name"].lower(),
        size=parse_pool_size(found["size"]),
    )


def _days(first: str, last: str) -> frozenset[int]:
    begin, end = DAYS.index(first.lower()), DAYS.index(last.lower())
    return frozenset((begin + day) % len(DAYS) for day in range((end - begin) % len(DAYS) + 1))


def _minutes(text: str) -> int | None:
    """Return the minutes after midnight, None if there is no such time."""
    hours, minutes = int(text[:2]), int(text[3:])
    total = 60 * hours + minutes
    return total if minutes < 60 and total <= MINUTES else None
