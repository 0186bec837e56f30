"""When a pool whose launches fail is filled again. Pure."""

from dataclasses import dataclass

FIRST_PAUSE_SECONDS = 2.0
MAX_FAILURES = 5
"""After so many in a row a pool is left alone, until its kernelspec, image or settings change."""


@dataclass(slots=True)
class Trouble:
    """The failures of a pool's launches in a row."""

    failures: int = 0
    next_try: float = 0.0
    """In seconds, by the caller's clock."""

    def add(self, now: float, *, is_engine_away: bool) -> None:
        """Note a failure, after which the next launch waits twice as long.

        Of launches that were made at the same time one counts. An engine that is away says nothing
        of the pool.
        """
        if now < self.next_try:
            return
        self.next_try = now + FIRST_PAUSE_SECONDS * 2**self.failures
        self.failures += not is_engine_away

    @property
    def is_given_up(self) -> bool:
        """Whether no launch is tried any more."""
        return self.failures >= MAX_FAILURES

    def may_launch(self, now: float) -> bool:
        """Say whether another launch may be tried now."""
        return not self.is_given_up and now >= self.next_try
