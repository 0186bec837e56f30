"""The launches for pools that are under way here, and what became of earlier ones."""

import asyncio
import contextlib
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from enterprise_gateway.errors import (
    ConfigurationError,
    ConflictError,
    GatewayError,
    LaunchError,
    UnavailableError,
)
from enterprise_gateway.services.kernels.planning.launches import with_kernel_id
from enterprise_gateway.services.kernels.pools.pool import Pool
from enterprise_gateway.services.kernels.pools.pools import Pools
from enterprise_gateway.services.kernels.pools.trouble import Trouble
from enterprise_gateway.services.kernels.registry.exits import Cause
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernels.starts.attempts import MAX_CAUSE_CHARS, Attempt
from enterprise_gateway.services.kernels.starts.starter import Starter
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.services.processproxies.steps import Step
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings

PROOF_SECONDS = 60.0
"""How long a kernel must live for its pool to be in order."""
_FROM_OUTSIDE = (Cause.STOPPED, Cause.NODE_LOST)
"""Causes of deaths that say nothing of a pool."""

_log = logging.getLogger(__name__)


class PoolLaunches:
    """Launches kernels for pools."""

    def __init__(
        self,
        live: LiveSettings,
        proxies: ProxyRegistry,
        registry: Registry,
        pools: Pools,
        starter: Starter,
        on_image: Callable[[], None],
    ) -> None:
        """Launch nothing yet.

        Args:
            live: the settings.
            proxies: the process proxies.
            registry: knows how kernels die.
            pools: the pools.
            starter: launches the kernels.
            on_image: called when an image is there that a pool lacked, which is another pool then.
        """
        self._live = live
        self._proxies = proxies
        self._registry = registry
        self._pools = pools
        self._starter = starter
        self._on_image = on_image
        self._tasks = BackgroundTasks()
        self._under_way: dict[str, tuple[Pool, Attempt]] = {}
        """By the kernel's id."""

    async def close(self) -> None:
        """Give up the launches under way."""
        await self._tasks.cancel()

    @property
    def under_way(self) -> Mapping[str, int]:
        """How many there are for each pool, by its key."""
        return Counter(pool.key for pool, _ in self._under_way.values())

    @property
    def launching(self) -> int:
        """How many there are but for those that wait for an image."""
        return sum(attempt.steps.step is not Step.PULL for _, attempt in self._under_way.values())

    def may_try(self, key: str, now: float) -> bool:
        """Say whether a pool may have another launch, by what became of its earlier ones."""
        return self._pools.troubles.get(key, Trouble()).may_launch(now)

    def keep(self, keys: Collection[str]) -> None:
        """Forget the troubles of all other pools."""
        troubles = self._pools.troubles
        self._pools.troubles = {key: one for key, one in troubles.items() if key in keys}

    def begin(self, pool: Pool) -> None:
        """Launch a kernel for a pool."""
        secret = self._live.current.cluster_secret
        launch = replace(with_kernel_id(pool.launch, str(uuid.uuid4()), secret), pool=pool.key)
        attempt = Attempt(launch.kernel_id, launch.kernel_name, launch.username)
        self._under_way[launch.kernel_id] = pool, attempt
        self._tasks.begin(self._run(replace(pool, launch=launch), attempt))

    async def _run(self, pool: Pool, attempt: Attempt) -> None:
        try:
            if pool.lacks_image and await self._pull(pool, attempt):
                self._on_image()
                return
            record = await self._launch(pool, attempt)
            if not self._is_wanted(pool):
                await self._pools.discard(record)
                return
        except ConflictError:
            _log.info("Kernel %s was taken from its pool at once", attempt.kernel_id)
        except GatewayError as exc:
            self._report_failure(pool, attempt, exc)
        else:
            _log.info(
                "Kernel %s (%s) is ready in its pool after %s",
                attempt.kernel_id,
                pool.kernel_name,
                attempt.steps.times(),
            )
            self._tasks.begin(self._judge(pool, attempt, record))
        finally:
            del self._under_way[attempt.kernel_id]

    def _is_wanted(self, pool: Pool) -> bool:
        """Say whether a pool has not ceased to be, as it may while a kernel is launched."""
        return any(current.key == pool.key for current in self._pools.current.values())

    async def _pull(self, pool: Pool, attempt: Attempt) -> bool:
        """Wait for a pool's image, whose id its kernels carry; return whether it is there now."""
        proxy = self._proxies.get(pool.proxy_class)
        await proxy.prepare(replace(pool.launch, steps=attempt.steps))
        image = await proxy.find_image(pool.launch)
        return image is not None and image.is_present

    async def _launch(self, pool: Pool, attempt: Attempt) -> Record:
        proxy = self._proxies.get(pool.proxy_class)
        with self._pools.upcoming.launching(pool, attempt.steps) as upcoming:
            record = await self._starter.launch_for_pool(proxy, pool.launch, attempt)
            await self._check_takeable(record)
            if self._is_wanted(pool):
                upcoming.record = record
        return record

    async def _judge(self, pool: Pool, attempt: Attempt, record: Record) -> None:
        """Judge a launch by the kernel's first minute: one that dies in that has failed, too."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(record.is_over.wait(), PROOF_SECONDS)
        if not (record.is_over.is_set() and record.is_pooled):
            self._pools.troubles.pop(pool.key, None)
            return
        cause = self._cause_of_death(record)
        if cause:
            self._report_failure(pool, attempt, LaunchError(f"It died: {cause}"))

    def _cause_of_death(self, record: Record) -> str:
        """Return what a kernel died of in its pool, "" if that says nothing of the pool."""
        state = record.state
        if state is not None and state.is_dead and state.reason is not None:
            return state.reason.message  # its agent lived, so it was ended then
        death = self._registry.unknown_death(record)
        return death.reason if death is not None and death.cause not in _FROM_OUTSIDE else ""

    async def _check_takeable(self, record: Record) -> None:
        """End a kernel that no gateway can take.

        Raises:
            ConflictError: it was taken.
            UnavailableError: its agent does not answer.
            ConfigurationError: none of its kind can be taken.
        """
        if record.is_takeable:
            return
        if record.agent is None or record.state is None or record.state.pooled:
            return  # it is known to be in the pool, or will be, or is gone
        await self._pools.discard(record)
        raise ConfigurationError(
            "Its kernels cannot be given to users while they run: their launch script sets no "
            "label enterprise-gateway.pool, their image has an older agent or no name for the "
            "user id, or they run beside a sidecar."
        )

    def _report_failure(self, pool: Pool, attempt: Attempt, error: GatewayError) -> None:
        """Report a launch that failed; an engine that is away says nothing of the pool."""
        trouble = self._pools.troubles.setdefault(pool.key, Trouble())
        now = asyncio.get_running_loop().time()
        trouble.add(now, is_engine_away=isinstance(error, UnavailableError))
        self._pools.metrics.count_failure(pool.kernel_name, type(error).__name__)
        end = " It is not filled until that changes." if trouble.is_given_up else ""
        _log.warning(
            "The pool of kernelspec %s could not be filled: kernel %s failed in step %s after %s: "
            "%s%s",
            pool.kernel_name,
            attempt.kernel_id,
            attempt.steps.step,
            attempt.steps.times(),
            " ".join(str(error).split())[:MAX_CAUSE_CHARS],
            end,
        )
