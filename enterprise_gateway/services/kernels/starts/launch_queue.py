"""Bounds how many launches run at once. The others wait, and each user gets its turn."""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from enterprise_gateway.errors import UnavailableError

STOPPING = "This gateway is stopping and starts no more kernels. Try again."
FULL = (
    "This gateway has {waiting} kernels to start already, and takes no more "
    "(EG_MAX_QUEUED_LAUNCHES). Try again in a moment."
)
FULL_RETRY_SECONDS = 10.0


class _Place(NamedTuple):
    """The place of a launch that waits."""

    kernel_id: str
    turn: asyncio.Future[None]
    """Done when the launch gets its slot."""


class LaunchQueue:
    """A semaphore whose limit may change, with a bounded queue that is fair between users.

    Beyond the capacity of a machine, more launches only make each of them slower, until none is
    ready in time. The users that wait get a slot in turn, so that one who starts fifty kernels
    delays another's by one, not by fifty.

    Attributes:
        running: how many launches run now.
    """

    def __init__(self, limit: Callable[[], int], max_waiting: Callable[[], int]) -> None:
        """Make an empty queue.

        Args:
            limit: returns how many launches may run at once, asked each time; 0: any number.
            max_waiting: returns how many launches may wait, asked each time; 0: any number.
        """
        self._limit = limit
        self._max_waiting = max_waiting
        self._queues: OrderedDict[str, deque[_Place]] = OrderedDict()
        """The places of each user that waits; the user whose turn is next comes first."""
        self._is_closed = False
        self.running = 0

    @property
    def waiting(self) -> int:
        """How many launches wait."""
        return sum(map(len, self._queues.values()))

    def ahead(self, kernel_id: str) -> int | None:
        """Return how many launches get a slot before a kernel's, None if it waits for none."""
        for order, (user, queue) in enumerate(self._queues.items()):
            for turns, place in enumerate(queue):
                if place.kernel_id == kernel_id:
                    others = enumerate(other for other in self._queues if other != user)
                    return turns + sum(
                        min(len(self._queues[other]), turns + (before < order))
                        for before, other in others
                    )
        return None

    @contextlib.asynccontextmanager
    async def slot(self, user: str, kernel_id: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it in this context.

        A cancelled caller leaves the queue, or passes its slot on.

        Args:
            user: whose turn it takes.
            kernel_id: the kernel that is to be launched, for `ahead`.

        Raises:
            UnavailableError: the queue is closed, or full.
        """
        if self._is_closed:
            raise UnavailableError(STOPPING, retry_after=1.0)
        waiting = self.waiting
        if 0 < self._max_waiting() <= waiting:
            raise UnavailableError(FULL.format(waiting=waiting), retry_after=FULL_RETRY_SECONDS)
        place = _Place(kernel_id, asyncio.get_running_loop().create_future())
        self._queues.setdefault(user, deque()).append(place)
        self._hand_out()
        try:
            await place.turn
            yield
        finally:
            if place in self._queues.get(user, ()):
                self._leave(user, place)
            elif not place.turn.cancelled() and place.turn.exception() is None:
                self.running -= 1
            self._hand_out()

    def close(self) -> None:
        """Refuse the launches that wait, and all later ones. Running launches keep their slots."""
        self._is_closed = True
        for queue in self._queues.values():
            for place in queue:
                if not place.turn.done():
                    place.turn.set_exception(UnavailableError(STOPPING, retry_after=1.0))
        self._queues.clear()

    def _leave(self, user: str, place: _Place) -> None:
        queue = self._queues[user]
        queue.remove(place)
        if not queue:
            del self._queues[user]

    def _hand_out(self) -> None:
        while self._queues and not 0 < self._limit() <= self.running:
            user, queue = next(iter(self._queues.items()))
            place = queue[0]
            self._leave(user, place)
            if not place.turn.done():
                self.running += 1
                place.turn.set_result(None)
                if user in self._queues:
                    self._queues.move_to_end(user)
