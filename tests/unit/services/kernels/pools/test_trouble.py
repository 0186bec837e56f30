"""A pool whose launches fail."""

from enterprise_gateway.services.kernels.pools.trouble import MAX_FAILURES, Trouble


def test_each_failure_doubles_the_pause_until_the_pool_is_given_up() -> None:
    """2, 4, 8 and 16 seconds."""
    trouble, now, pauses = Trouble(), 100.0, []
    while not trouble.is_given_up:
        trouble.add(now, is_engine_away=False)
        pauses.append(trouble.next_try - now)
        assert not trouble.may_launch(now)
        now = trouble.next_try
    assert pauses == [2, 4, 8, 16, 32]
    assert len(pauses) == MAX_FAILURES
    assert not trouble.may_launch(now)


def test_launches_at_the_same_time_fail_once() -> None:
    """They have one cause."""
    trouble = Trouble()
    trouble.add(100, is_engine_away=False)
    trouble.add(100.5, is_engine_away=False)
    assert (trouble.failures, trouble.next_try) == (1, 102)


def test_engine_that_is_away_is_waited_for() -> None:
    """However long; the pool is filled when it is back."""
    trouble, now = Trouble(), 100.0
    for _ in range(100):
        trouble.add(now, is_engine_away=True)
        now = trouble.next_try
    assert trouble.may_launch(now)
