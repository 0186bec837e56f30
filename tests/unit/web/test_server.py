"""The ports that the server tries."""

import itertools

import pytest

from enterprise_gateway.web.server import ports_to_try


def test_ports_are_tried_in_sequence_then_near_by() -> None:
    """As Jupyter servers do: five in a row, then random ones around."""
    ports = list(ports_to_try(8888, 50))
    assert len(ports) == 51
    assert ports[:5] == [8888, 8889, 8890, 8891, 8892]
    assert all(8888 - 102 <= port <= 8888 + 102 for port in ports)


@pytest.mark.parametrize(("retries", "expected"), [(0, [80]), (1, [80, 81]), (3, [80, 81, 82, 83])])
def test_few_retries_try_few_ports(retries: int, expected: list[int]) -> None:
    """The number of retries is exact."""
    assert list(ports_to_try(80, retries)) == expected


def test_ports_stay_valid_at_both_ends() -> None:
    """No port outside 1 to 65535 is tried."""
    tried = itertools.chain(ports_to_try(2, 50), ports_to_try(65535, 50))
    assert all(1 <= port <= 65535 for port in tried)
