"""The pools of this gateway's kernelspecs, and the taking of a kernel from one."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping

from enterprise_gateway.errors import (
    ConfigurationError,
    ConflictError,
    GatewayError,
    LaunchError,
)
from enterprise_gateway.services.kernels.planning.launches import with_kernel_id
from enterprise_gateway.services.kernels.pools.metrics import (
    NEW_PROCESS,
    NONE_READY,
    TAKEN,
    UNFIT,
    Level,
    PoolMetrics,
)
from enterprise_gateway.services.kernels.pools.pool import Pool, plan_pool
from enterprise_gateway.services.kernels.pools.takeover import Process, Takeover, plan_takeover
from enterprise_gateway.services.kernels.pools.trouble import Trouble
from enterprise_gateway.services.kernels.pools.upcoming import UpcomingKernels
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.registry import LOCAL_PROCESS_PROXY
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.settings.values.schedule import PAUSE

TAKE_SECONDS = 2.0
"""How long agent and engine may take; then the kernel is started as if there were no pool."""
BOOT_SECONDS = 15.0
"""How long an agent may take if a process has to begin first."""
TAKE_FRACTION = 0.5
"""The part of a launch's time that a pool may take; the rest is for a launch without it."""
DISCARD_SECONDS = 15.0

_log = logging.getLogger(__name__)


class Pools:
    """Gives kernels of pools to users.

    Attributes:
        upcoming: the launches for pools that are under way here.
        current: the pools as they should be, by kernelspec.
        metrics: counts what becomes of starts and launches.
        last_taken: when a kernel was last taken, by the event loop's clock.
        troubles: the failures of this gateway's launches for pools, by the pool's key.
    """

    def __init__(self, live: LiveSettings, registry: Registry, tasks: BackgroundTasks) -> None:
        self._live = live
        self._registry = registry
        self._tasks = tasks
        self.metrics = PoolMetrics(registry.metrics.registry, self._levels)
        self._reserved: set[Record] = set()
        self.upcoming = UpcomingKernels()
        self.current: Mapping[str, Pool] = {}
        self.last_taken = 0.0
        self.troubles: dict[str, Trouble] = {}

    def ready(self, key: str) -> list[Record]:
        """Return the kernels of a pool that can be taken, the oldest first."""
        found = [
            record
            for record in self._registry
            if record.workload.pool == key and record.is_takeable and record not in self._reserved
        ]
        return sorted(found, key=lambda record: (record.workload.created, record.kernel_id))

    async def take(self, pool: Pool, spec: Kernelspec, launch: LaunchRequest) -> Record | None:
        """Give a user a kernel that is ready, or nearly; None if none fits.

        A pool makes no start fail, and takes no more than a part of its time.

        Args:
            pool: that of the kernelspec.
            spec: the kernelspec.
            launch: how the kernel would be launched without a pool.
        """
        takeover = self._plan(pool, spec, launch)
        record = None
        if takeover is not None:
            try:
                async with asyncio.timeout(launch.timeout * TAKE_FRACTION):
                    record = await self._take_one(pool, takeover, launch)
            except TimeoutError:
                _log.warning("No kernel was taken from the pool of %s in time", spec.name)
        self.metrics.count(spec.name, _outcome(takeover, record))
        return record

    async def discard(self, record: Record) -> None:
        """End a kernel that was launched for a pool, unless a user has it, by whichever gateway.

        Raises:
            ConflictError: a user has it.
            UnavailableError: its agent does not answer, so a user may have it.
        """
        try:
            await self._registry.end(record, DISCARD_SECONDS, only_pooled=True)
        except ConflictError:
            if record.agent is not None and (await record.agent.taken()).is_taken:
                raise
            await self._registry.end(record, DISCARD_SECONDS)  # its agent lets no user take it

    async def _take_one(
        self, pool: Pool, takeover: Takeover, launch: LaunchRequest
    ) -> Record | None:
        """Take the first kernel that another gateway does not take; any other failure is the last.

        What was wrong with one is likely to be wrong with the next, and would spoil that, too.
        """
        async with contextlib.aclosing(self._candidates(pool)) as candidates:
            async for record in candidates:
                if record in self._reserved or not _can_become(record, takeover):
                    continue
                self._reserved.add(record)
                try:
                    await self._take(record, takeover, launch)
                except ConflictError:  # another gateway was faster
                    continue
                except (GatewayError, TimeoutError) as exc:
                    _log.warning("Kernel %s was not taken from its pool: %s", record.kernel_id, exc)
                    return None
                else:
                    self.last_taken = asyncio.get_running_loop().time()
                    return record
                finally:
                    self._reserved.discard(record)
        return None

    async def _candidates(self, pool: Pool) -> AsyncGenerator[Record]:
        """Yield the kernels that are ready, then the one that is nearly, once it is."""
        for record in self.ready(pool.key):
            yield record
        coming = await self.upcoming.next_ready(pool)
        if coming is not None:
            yield coming

    def _levels(self) -> dict[str, Level]:
        levels = {}
        for name, pool in self.current.items():
            ready = len(self.ready(pool.key))
            size = ready if pool.size == PAUSE else pool.size
            trouble = self.troubles.get(pool.key, Trouble())
            levels[name] = Level(size, ready, trouble.is_given_up)
        return levels

    def _plan(self, pool: Pool, spec: Kernelspec, launch: LaunchRequest) -> Takeover | None:
        settings = self._live.current
        may_move = spec.proxy_class == LOCAL_PROCESS_PROXY or settings.docker.mirror_working_dirs
        try:
            if plan_pool(spec, settings).plan != pool.plan:
                return None
            return plan_takeover(pool.launch, launch, spec.config, may_move=may_move)
        except ConfigurationError as exc:
            _log.warning("The pool of kernelspec %s is not used: %s", spec.name, exc)
            return None

    def _discard_taken(self, record: Record) -> None:
        self._tasks.begin(self._registry.end(record, DISCARD_SECONDS))

    async def _take(self, record: Record, takeover: Takeover, launch: LaunchRequest) -> None:
        """Take one kernel. If that fails half-way it is ended, by its agent at the latest.

        Raises:
            ConflictError: another gateway was faster.
            LaunchError: the process that was to be the user's did not come up.
            UnavailableError, TimeoutError: agent or engine do not answer.
        """
        if record.agent is None:
            raise ConflictError(f"Kernel {record.kernel_id} is in no pool any more")
        is_running = takeover.process is Process.RUNNING
        try:
            state = await record.agent.take(takeover, TAKE_SECONDS if is_running else BOOT_SECONDS)
        except LaunchError:
            self._discard_taken(record)
            raise
        settings = self._live.current
        # launched again, it keeps the id that it has
        record.take(with_kernel_id(launch, record.kernel_id, settings.cluster_secret), state)
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                workload = await record.proxy.assign(record.workload, launch.username)
        except BaseException:
            self._discard_taken(record)
            raise
        record.apply_workload(workload, settings.kernels.launch_timeout, may_be_late=True)


def _can_become(record: Record, takeover: Takeover) -> bool:
    """Say whether a kernel's agent can do what a takeover asks for.

    An older one would ignore which process is meant, and set the variables in the running one.
    """
    is_running = takeover.process is Process.RUNNING
    return is_running or (record.state is not None and record.state.can_begin_anew)


def _outcome(takeover: Takeover | None, record: Record | None) -> str:
    if takeover is None:
        return UNFIT
    if record is None:
        return NONE_READY
    return TAKEN if takeover.process is Process.RUNNING else NEW_PROCESS
