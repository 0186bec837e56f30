"""The results of a run: figures, their targets, and their table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

from benchmarks.servers import PEERS, Column


class Bound(Enum):
    """How a target limits the gateway's median."""

    AT_MOST = "≤ {limit:g} {unit}"
    AT_LEAST = "≥ {limit:g} {unit}"
    TIMES_FLOOR = "≤ {limit:g} x floor"
    ABOVE_FLOOR = "≤ floor + {limit:g} {unit}"
    TIMES_EG = "≤ {limit:g} x EG"
    TIMES_FASTER_PEER = "≤ {limit:g} x the faster peer"


REFERENCES: dict[Bound, tuple[Column, ...]] = {
    Bound.TIMES_FLOOR: (Column.FLOOR,),
    Bound.ABOVE_FLOOR: (Column.FLOOR,),
    Bound.TIMES_EG: (Column.ENTERPRISE_GATEWAY,),
    Bound.TIMES_FASTER_PEER: PEERS,
}
"""The columns whose least median a target refers to."""


@dataclass(frozen=True)
class Target:
    """The value that a figure is to reach."""

    bound: Bound
    limit: float


@dataclass
class Figure:
    """One row of the table.

    Attributes:
        name: what is measured.
        unit: of all values.
        target: None for a figure that only explains others.
        samples: measured values.
        remarks: why a column has no values, or not all.
        losses: messages sent and never received.
    """

    name: str
    unit: str
    target: Target | None = None
    samples: dict[Column, list[float]] = field(default_factory=dict)
    remarks: dict[Column, str] = field(default_factory=dict)
    losses: dict[Column, int] = field(default_factory=dict)

    def add(self, column: Column, value: float) -> None:
        """Note one measurement."""
        self.samples.setdefault(column, []).append(value)

    def median(self, column: Column) -> float | None:
        """The median of a column, None if it has no values."""
        values = self.samples.get(column)
        return median(values) if values else None

    def is_reached(self) -> bool | None:
        """Whether the target is reached; None without a target or without what it refers to."""
        ours, limit = self.median(Column.GATEWAY), self._limit()
        if self.target is None or ours is None or limit is None:
            return None
        return ours >= limit if self.target.bound is Bound.AT_LEAST else ours <= limit

    def _limit(self) -> float | None:
        """The value that the target is now, None without what it refers to."""
        if self.target is None:
            return None
        bound, limit = self.target.bound, self.target.limit
        if bound not in REFERENCES:
            return limit
        found = (self.median(column) for column in REFERENCES[bound])
        reference = min((value for value in found if value is not None), default=None)
        if reference is None:
            return None
        return limit + reference if bound is Bound.ABOVE_FLOOR else limit * reference

    def describe_target(self) -> str:
        """The target in words."""
        if self.target is None:
            return ""
        return self.target.bound.value.format(limit=self.target.limit, unit=self.unit)

    def describe(self, column: Column) -> str:
        """Return one cell: median, spread, and the ratio to the gateway's."""
        middle = self.median(column)
        if middle is None:
            return self.remarks.get(column, "-")
        values = self.samples[column]
        text = _number(middle)
        if len(values) > 1:
            text += f" [{_number(min(values))}..{_number(max(values))}]"
        ours = self.median(Column.GATEWAY)
        if column is not Column.GATEWAY and ours:
            text += f" (x {_number(middle / ours)})"
        if column in self.losses:
            text += f" — {self.losses[column]} lost"
        return f"{text} — {self.remarks[column]}" if column in self.remarks else text


VERDICTS = {True: "reached", False: "**missed**", None: ""}


def to_markdown(figures: Sequence[Figure]) -> str:
    """The table. Multiples in brackets are of the gateway's median."""
    head = ["figure", *Column, "to reach", ""]
    rows = [
        [
            f"{figure.name}, {figure.unit}",
            *(figure.describe(column) for column in Column),
            figure.describe_target(),
            VERDICTS[figure.is_reached()],
        ]
        for figure in figures
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def to_json(figures: Sequence[Figure]) -> list[dict[str, object]]:
    """All that was measured."""
    return [
        {
            "name": figure.name,
            "unit": figure.unit,
            "target": figure.describe_target(),
            "reached": figure.is_reached(),
            "samples": {column.value: values for column, values in figure.samples.items()},
            "losses": {column.value: lost for column, lost in figure.losses.items()},
            "remarks": {column.value: remark for column, remark in figure.remarks.items()},
        }
        for figure in figures
    ]


def _number(value: float) -> str:
    """Three significant digits, no exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
