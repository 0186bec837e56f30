"""When a pool gets another kernel."""

from dataclasses import replace

import pytest

from enterprise_gateway.services.kernels.pools.pace import (
    MAX_LAUNCHES,
    MAX_QUIET_SECONDS,
    QUIET_SECONDS,
    Load,
    may_launch,
)

IDLE = Load(waiting=0, launching=0, of_pool=0, since_taken=1e6, since_missing=0.0)


def test_missing_kernel_is_launched_at_once_if_there_is_nothing_else_to_do() -> None:
    """Two of them at a time."""
    assert may_launch(IDLE)
    assert may_launch(replace(IDLE, launching=MAX_LAUNCHES - 1, of_pool=MAX_LAUNCHES - 1))


@pytest.mark.parametrize(
    "load",
    [
        replace(IDLE, waiting=1, since_missing=1e6),
        replace(IDLE, launching=MAX_LAUNCHES),
        replace(IDLE, of_pool=MAX_LAUNCHES),
        replace(IDLE, since_taken=QUIET_SECONDS - 0.1),
    ],
)
def test_users_and_other_launches_come_first(load: Load) -> None:
    """A start that waits, two launches under way, the first cells of the last kernel's user."""
    assert not may_launch(load)


def test_pool_that_is_used_all_the_time_is_filled_all_the_same() -> None:
    """There would be no quiet moment while a class signs in."""
    busy = replace(IDLE, since_taken=0.5)
    assert not may_launch(replace(busy, since_missing=MAX_QUIET_SECONDS - 0.1))
    assert may_launch(replace(busy, since_missing=MAX_QUIET_SECONDS))
