"""How much an agent may send."""

import pytest

from enterprise_gateway.services.kernels.agents.exchange import (
    DOCUMENTS,
    OUTPUT,
    OutOfContractError,
    RateLimit,
)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_agents_within_the_contract_go_on_for_ever() -> None:
    """A line in 50 ms, with its chunk and its read, and the largest annotations."""
    clock = Clock()
    limit = RateLimit(DOCUMENTS, clock)
    for _ in range(20 * 3600):
        clock.now += 0.05
        limit.spend(pieces=3, size=64 * 1024)


def test_backlog_of_a_gateway_that_was_stopped_is_taken() -> None:
    """Half a minute of lines may wait in the socket."""
    clock = Clock()
    limit = RateLimit(DOCUMENTS, clock)
    clock.now += 30
    for _ in range(20 * 30):
        limit.spend(pieces=3, size=1024)


@pytest.mark.parametrize(
    ("pieces", "size", "says"),
    [(DOCUMENTS.burst_pieces + 1, 0, "too fast"), (0, DOCUMENTS.burst_bytes + 1, "too much")],
)
def test_more_is_out_of_the_contract(pieces: float, size: float, says: str) -> None:
    """By number, for what is small and costly, and by size."""
    with pytest.raises(OutOfContractError, match=says):
        RateLimit(DOCUMENTS, Clock()).spend(pieces=pieces, size=size)


def test_quiet_time_is_not_saved_up_for_ever() -> None:
    """After an hour of silence no more than the burst may come at once."""
    clock = Clock()
    limit = RateLimit(DOCUMENTS, clock)
    clock.now += 3600
    limit.spend(size=DOCUMENTS.burst_bytes)
    clock.now += 1
    limit.spend(size=DOCUMENTS.bytes_per_second)
    with pytest.raises(OutOfContractError):
        limit.spend(size=1)


def test_output_may_be_any_amount_but_not_in_tiny_pieces() -> None:
    """A gigabyte at once in reads of 64 KiB, but no flood of single bytes."""
    clock = Clock()
    limit = RateLimit(OUTPUT, clock)
    for _ in range(16 * 1024):
        clock.now += 0.0005
        limit.spend(pieces=2, size=64 * 1024)
    with pytest.raises(OutOfContractError, match="too fast"):
        limit.spend(pieces=10_000, size=10_000)
