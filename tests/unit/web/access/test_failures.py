"""Counting of wrong tokens: different ones, by address, for a minute, in limited memory."""

from enterprise_gateway.web.access.failures import (
    LIMIT,
    MAX_ADDRESSES,
    WINDOW_SECONDS,
    Failures,
)

HERE = "192.0.2.1"


def exceed(failures: Failures, address: str = HERE, now: float = 0.0) -> None:
    """Count one wrong token too many."""
    for number in range(LIMIT + 1):
        failures.add(address, f"guess {number}", now)


def test_limit_is_exceeded_by_one_token_more() -> None:
    """The first tokens up to the limit are answered as ever."""
    failures = Failures()
    for number in range(LIMIT):
        assert failures.add(HERE, f"guess {number}", 0.0) == number + 1
        assert failures.seconds_left(HERE, 0.0) == 0
    assert failures.add(HERE, "one more", 0.0) == LIMIT + 1
    assert failures.seconds_left(HERE, 20.0) == WINDOW_SECONDS - 20
    assert failures.add(HERE, "and more", 0.0) == 0


def test_repeated_token_counts_once() -> None:
    """A client with an old token that polls for hours exceeds nothing."""
    failures = Failures()
    assert failures.add(HERE, "old", 0.0) == 1
    assert {failures.add(HERE, "old", 0.01 * number) for number in range(1000)} == {0}
    assert failures.seconds_left(HERE, 10.0) == 0


def test_minute_ends() -> None:
    """Then the address begins anew."""
    failures = Failures()
    exceed(failures)
    assert failures.seconds_left(HERE, WINDOW_SECONDS - 1) == 1
    assert failures.seconds_left(HERE, WINDOW_SECONDS) == 0
    assert failures.add(HERE, "again", WINDOW_SECONDS) == 1


def test_other_address_does_not_matter() -> None:
    """But addresses of one IPv6 network are one, as are the two spellings of an IPv4 address."""
    failures = Failures()
    exceed(failures)
    assert failures.seconds_left("192.0.2.2", 0.0) == 0
    assert failures.seconds_left("::ffff:192.0.2.1", 0.0) > 0
    exceed(failures, "2001:db8::1")
    assert failures.seconds_left("2001:db8::ffff:2", 0.0) > 0
    assert failures.seconds_left("2001:db8:0:1::1", 0.0) == 0
    exceed(failures, "not an address")
    assert failures.seconds_left("not an address", 0.0) > 0


def test_memory_is_limited() -> None:
    """However many addresses and tokens there are."""
    failures = Failures()
    for number in range(MAX_ADDRESSES + 100):
        failures.add(f"address {number}", "guess", 0.0)
    for number in range(1000):
        failures.add(HERE, f"guess {number}", 0.0)
    assert len(failures._windows) == MAX_ADDRESSES
    assert len(failures._windows[HERE].tokens) == LIMIT + 1
