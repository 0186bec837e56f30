"""The kernels that this gateway launches for pools now, and the starts that wait for one."""

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Iterator
from statistics import median

from enterprise_gateway.services.kernels.pools.pool import Pool
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.processproxies.steps import Step, StepRecorder

REMEMBERED = 5
"""Of so many launches the median is the usual time."""


class Upcoming:
    """One launch.

    Attributes:
        key: that of the pool.
        began: when it got its turn, by the event loop's clock.
        record: the kernel, once it is ready.
        is_awaited: whether a start waits for it.
    """

    def __init__(self, key: str, steps: StepRecorder | None = None) -> None:
        self._over = asyncio.Event()
        self._steps = steps
        self.key = key
        self.began = asyncio.get_running_loop().time()
        self.record: Record | None = None
        self.is_awaited = False

    def update(self) -> None:
        """Find out whether it has got its turn: until then it may take any time."""
        if self._steps is not None:
            self.began = self._steps.begun(Step.PREPARE)

    def end(self) -> None:
        """Wake the start that waits, whether there is a kernel or not."""
        self._over.set()

    async def wait(self, seconds: float) -> Record | None:
        """Return the kernel; None if the launch fails, or takes longer than so many seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
        return self.record


class UpcomingKernels:
    """All launches for pools that are under way here."""

    def __init__(self) -> None:
        self._launches: list[Upcoming] = []
        self._times: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    @contextlib.contextmanager
    def launching(self, pool: Pool, steps: StepRecorder | None = None) -> Iterator[Upcoming]:
        """Announce a launch, which ends with this context: with a `record` if it succeeds.

        Args:
            pool: the pool.
            steps: of the launch, whose clock is the event loop's; None: it has its turn.
        """
        upcoming = Upcoming(pool.key, steps)
        self._launches.append(upcoming)
        try:
            yield upcoming
        finally:
            self._launches.remove(upcoming)
            upcoming.end()
            upcoming.update()
            if upcoming.record is not None:
                self.note(pool.kernel_name, asyncio.get_running_loop().time() - upcoming.began)

    def note(self, kernel_name: str, seconds: float) -> None:
        """Remember how long a launch for a kernelspec's pool took."""
        self._times[kernel_name].append(seconds)

    async def next_ready(self, pool: Pool) -> Record | None:
        """Wait for the kernel that is ready next; return None if starting another one is sooner.

        A launch counts if more than half of its usual time is over and no other start waits for it.
        It is waited for until all of that time is over, so a start in vain waits for half of it.
        """
        times = self._times[pool.kernel_name]
        usual = median(times) if times else 0.0
        now = asyncio.get_running_loop().time()
        key = pool.key
        for each in self._launches:
            each.update()
        free = [each for each in self._launches if each.key == key and not each.is_awaited]
        upcoming = min(free, key=lambda each: each.began, default=None)
        if upcoming is None or not usual / 2 < now - upcoming.began < usual:
            return None
        upcoming.is_awaited = True
        try:
            return await upcoming.wait(upcoming.began + usual - now)
        finally:
            upcoming.is_awaited = False
