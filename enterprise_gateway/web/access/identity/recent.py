"""Answers that are remembered for a while. Pure."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A limited number of answers, each for a limited time; the oldest one goes first."""

    def __init__(self, seconds: float, limit: int) -> None:
        self._seconds = seconds
        self._limit = limit
        self._answers: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, key: K) -> bool:
        """Return whether an answer is kept, even if its time is over."""
        return key in self._answers

    def get(self, key: K, now: float) -> V | None:
        """Return the answer that is remembered, None if there is none.

        Args:
            key: What was asked.
            now: The present time, in seconds of any clock that does not go back.
        """
        found = self._answers.get(key)
        if found is None or now - found[0] >= self._seconds:
            return None
        return found[1]

    def put(self, key: K, answer: V, now: float) -> None:
        """Remember an answer from now on."""
        self._answers.pop(key, None)
        self._answers[key] = (now, answer)
        while len(self._answers) > self._limit:
            self._answers.popitem(last=False)

    def pop(self, key: K) -> V | None:
        """Forget an answer; return it even if its time is over."""
        found = self._answers.pop(key, None)
        return None if found is None else found[1]
