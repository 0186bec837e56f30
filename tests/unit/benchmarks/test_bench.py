"""What figures are made of."""

import pytest

from benchmarks.bench import percentile


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [(100, 99, 99), (100, 50, 50), (30, 99, 30), (9, 50, 5), (1, 99, 1)],
)
def test_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    count: int, percent: float, expected: int
) -> None:
    """Of a hundred values the 99th percentile is not the largest: one outlier does not decide."""
    values = [float(value) for value in range(count, 0, -1)]
    assert percentile(values, percent) == expected
