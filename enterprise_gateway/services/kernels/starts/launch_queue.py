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
    is_background: bool
    turn: asyncio.Future[None]
    """Done when the launch gets its slot."""


class LaunchQueue:
    """A semaphore whose limit may change, with a bounded queue that is fair between users.

    Beyond the capacity of a machine, more launches only make each of them slower, until none is
    ready in time. The users that wait get a slot in turn, so that one who starts fifty kernels
    delays another's by one, not by fifty.

    Launches in the background, which no user waits for, get a slot only while no user's launch
    waits, and leave one for users if there is more than one.

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
        self._background: deque[_Place] = deque()
        self._running_background = 0
        self._is_closed = False
        self.running = 0

    @property
    def waiting(self) -> int:
        """How many launches of users wait."""
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
    async def slot(
        self, user: str, kernel_id: str, *, is_background: bool = False
    ) -> AsyncIterator[None]:
        """Wait for a slot, and hold it in this context.

        A cancelled caller leaves the queue, or passes its slot on.

        Args:
            user: whose turn it takes.
            kernel_id: the kernel that is to be launched, for `ahead`.
            is_background: whether no user waits for it, so that it takes no user's turn.

        Raises:
            UnavailableError: the queue is closed, or full.
        """
        if self._is_closed:
            raise UnavailableError(STOPPING, retry_after=1.0)
        if not is_background and self._is_full_for(user):
            raise UnavailableError(
                FULL.format(waiting=self.waiting), retry_after=FULL_RETRY_SECONDS
            )
        place = _Place(kernel_id, is_background, asyncio.get_running_loop().create_future())
        queue = self._background if is_background else self._queues.setdefault(user, deque())
        queue.append(place)
        self._hand_out()
        try:
            await place.turn
            yield
        finally:
            if place in queue:
                self._leave(user, queue, place)
            elif not place.turn.cancelled() and place.turn.exception() is None:
                self.running -= 1
                self._running_background -= is_background
            self._hand_out()

    def close(self) -> None:
        """Refuse the launches that wait, and all later ones. Running launches keep their slots."""
        self._is_closed = True
        for queue in (*self._queues.values(), self._background):
            for place in queue:
                if not place.turn.done():
                    place.turn.set_exception(UnavailableError(STOPPING, retry_after=1.0))
            queue.clear()
        self._queues.clear()

    def _is_full_for(self, user: str) -> bool:
        """Say whether a user gets no place: in a full queue each has an equal share.

        So one user who fills it refuses no other. It holds twice its size at most.
        """
        most = self._max_waiting()
        if not 0 < most <= self.waiting:
            return False
        if self.waiting >= 2 * most:
            return True
        users = len(self._queues.keys() | {user})
        return len(self._queues.get(user, ())) >= most // users

    def _leave(self, user: str, queue: deque[_Place], place: _Place) -> None:
        queue.remove(place)
        if not queue and queue is self._queues.get(user):
            del self._queues[user]

    def _has_slot(self) -> bool:
        return not 0 < self._limit() <= self.running

    def _has_background_slot(self) -> bool:
        limit = self._limit()
        is_free = not limit or self._running_background < max(limit - 1, 1)
        return is_free and not self._queues and self._has_slot()

    def _hand_out(self) -> None:
        while self._queues and self._has_slot():
            user, queue = next(iter(self._queues.items()))
            if self._give(user, queue) and user in self._queues:
                self._queues.move_to_end(user)
        while self._background and self._has_background_slot():
            self._give("", self._background)

    def _give(self, user: str, queue: deque[_Place]) -> bool:
        """Give a slot to the first in a queue; return False if that has given up."""
        place = queue[0]
        self._leave(user, queue, place)
        if place.turn.done():
            return False
        self.running += 1
        self._running_background += place.is_background
        place.turn.set_result(None)
        return True
