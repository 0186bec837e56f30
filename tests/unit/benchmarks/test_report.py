"""What a run's table says."""

import pytest

from benchmarks.report import Bound, Figure, Target, to_markdown
from benchmarks.servers import Column


@pytest.mark.parametrize(
    ("bound", "limit", "reached"),
    [
        (Bound.AT_MOST, 30, True),
        (Bound.AT_MOST, 29, False),
        (Bound.AT_LEAST, 30, True),
        (Bound.AT_LEAST, 31, False),
        (Bound.TIMES_FLOOR, 1.5, True),
        (Bound.TIMES_FLOOR, 1.4, False),
        (Bound.ABOVE_FLOOR, 10, True),
        (Bound.ABOVE_FLOOR, 9, False),
        (Bound.TIMES_EG, 0.5, True),
        (Bound.TIMES_EG, 0.4, False),
        (Bound.TIMES_FASTER_PEER, 1, True),
        (Bound.TIMES_FASTER_PEER, 0.7, False),
    ],
)
def test_target_is_compared_with_the_medians(bound: Bound, limit: float, reached: bool) -> None:  # noqa: FBT001 - a column of the table
    """The gateway's median is 30, the floor's 20, EG's 60, jupyter_server's 40."""
    figure = Figure("x", "ms", Target(bound, limit))
    for value in (10, 30, 99):
        figure.add(Column.GATEWAY, value)
    figure.add(Column.FLOOR, 20)
    figure.add(Column.ENTERPRISE_GATEWAY, 60)
    figure.add(Column.JUPYTER_SERVER, 40)
    assert figure.is_reached() is reached


@pytest.mark.parametrize("bound", [Bound.TIMES_FLOOR, Bound.TIMES_EG, Bound.TIMES_FASTER_PEER])
def test_target_without_its_reference_is_neither_reached_nor_missed(bound: Bound) -> None:
    """A peer that cannot be installed makes no verdict."""
    figure = Figure("x", "ms", Target(bound, 0.8))
    figure.add(Column.GATEWAY, 1)
    assert figure.is_reached() is None


def test_faster_peer_is_the_one_that_could_be_measured() -> None:
    """Without EG, jupyter_server is the faster one."""
    figure = Figure("x", "s", Target(Bound.TIMES_FASTER_PEER, 1))
    figure.add(Column.GATEWAY, 2)
    figure.add(Column.JUPYTER_SERVER, 1)
    assert figure.is_reached() is False


def test_table_shows_spread_ratio_and_losses() -> None:
    """A reader sees how sure a value is, how it compares, and what is missing."""
    figure = Figure("rate", "1/s", Target(Bound.AT_LEAST, 15_000))
    for value in (10_000.0, 20_000.0, 30_000.0):
        figure.add(Column.GATEWAY, value)
    figure.add(Column.JUPYTER_SERVER, 2_000.0)
    figure.losses[Column.GATEWAY] = 3
    figure.remarks[Column.ENTERPRISE_GATEWAY] = "no EG"
    row = to_markdown([figure]).splitlines()[-1]
    assert "20 000 [10 000..30 000] — 3 lost" in row
    assert "2 000 (x 0.1)" in row
    assert "no EG" in row
    assert "reached" in row
