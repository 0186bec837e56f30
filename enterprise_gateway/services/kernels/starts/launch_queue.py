"""Bounds how many launches run at once. The others wait, first come, first served."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable

from enterprise_gateway.errors import UnavailableError

STOPPING = "This gateway is stopping and starts no more kernels. Try again."


class LaunchQueue:
    """A first-in, first-out semaphore whose limit may change.

    Beyond the capacity of a machine, more launches only make each of them slower, until none is
    ready in time.

    Attributes:
        running: how many launches run now.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        """Make an empty queue.

        Args:
            limit: returns how many launches may run at once, asked each time; 0: any number.
        """
        self._limit = limit
        self._queue: deque[asyncio.Future[None]] = deque()
        self._is_closed = False
        self.running = 0

    @property
    def waiting(self) -> int:
        """How many launches wait."""
        return len(self._queue)

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it in this context.

        A cancelled caller leaves the queue, or passes its slot on.

        Raises:
            UnavailableError: the queue is closed.
        """
        if self._is_closed:
            raise UnavailableError(STOPPING, retry_after=1.0)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        self._hand_out()
        try:
            await place
            yield
        finally:
            if place in self._queue:
                self._queue.remove(place)
            elif not place.cancelled() and place.exception() is None:
                self.running -= 1
            self._hand_out()

    def close(self) -> None:
        """Refuse the launches that wait, and all later ones. Running launches keep their slots."""
        self._is_closed = True
        for place in self._queue:
            if not place.done():
                place.set_exception(UnavailableError(STOPPING, retry_after=1.0))
        self._queue.clear()

    def _hand_out(self) -> None:
        while self._queue and not 0 < self._limit() <= self.running:
            place = self._queue.popleft()
            if not place.done():
                self.running += 1
                place.set_result(None)
