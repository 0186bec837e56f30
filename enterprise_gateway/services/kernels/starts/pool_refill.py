"""Keeps the pools full, and ends what is too many in them."""

import asyncio
import contextlib
import functools
import logging
import random
import time
from collections.abc import Mapping
from datetime import datetime

from enterprise_gateway.errors import ConfigurationError, GatewayError
from enterprise_gateway.services.kernels.pools.balance import Balance, balance
from enterprise_gateway.services.kernels.pools.history import PoolHistory
from enterprise_gateway.services.kernels.pools.pace import Load, may_launch
from enterprise_gateway.services.kernels.pools.pool import Pool, plan_pool, pool_size, with_image
from enterprise_gateway.services.kernels.pools.pools import DISCARD_SECONDS, Pools
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernels.starts.pool_launches import PoolLaunches
from enterprise_gateway.services.kernels.starts.starter import Starter
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    Workload,
)
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings

CHECK_SECONDS = 1.0
PLAN_SECONDS = 10.0
"""How often kernelspecs and images are looked at."""
SPREAD_SECONDS = 0.5
"""Gateways that see a gap at the same time fill it at different times, and see each other's."""

_log = logging.getLogger(__name__)


class PoolRefill:
    """Launches kernels for pools, and ends those that are too many."""

    def __init__(
        self,
        live: LiveSettings,
        proxies: ProxyRegistry,
        kernelspecs: Kernelspecs,
        registry: Registry,
        pools: Pools,
        starter: Starter,
    ) -> None:
        self._live = live
        self._proxies = proxies
        self._kernelspecs = kernelspecs
        self._registry = registry
        self._pools = pools
        self._starter = starter
        self._tasks = BackgroundTasks()
        self._changed = asyncio.Event()
        self._launches = PoolLaunches(live, proxies, registry, pools, starter, self._changed.set)
        self._missing_since: dict[str, float] = {}
        """Since when kernels have been missing in a pool, by key."""
        self._plans: Mapping[str, Pool] = {}
        """The pools that there should be, by kernelspec; also those of size 0."""
        self._history = PoolHistory()
        self._given_away: set[str] = set()
        """The ids of kernels that users have taken from pools, by whichever gateway."""
        self._reported: dict[str, str] = {}

    def start(self) -> None:
        """Begin to keep the pools full."""
        self._live.subscribe(lambda _: self._changed.set())
        self._tasks.begin(self._run())

    async def close(self) -> None:
        """Stop. Kernels in pools stay, for other gateways and later ones."""
        await self._tasks.cancel()
        await self._launches.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_plan = loop.time()
        while True:
            try:
                if loop.time() >= next_plan or self._changed.is_set():
                    self._changed.clear()
                    next_plan = loop.time() + PLAN_SECONDS
                    await self._plan()
                if self._plans or any(record.is_pooled for record in self._registry):
                    await self._registry.ensure_listed()
                    self._balance(loop.time())
            except GatewayError as exc:
                _log.debug("The pools are not looked after now: %s", exc)
            except Exception:  # noqa: BLE001 - a task's root
                _log.exception("Looking after the pools failed. Trying again.")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), CHECK_SECONDS)

    async def _plan(self) -> None:
        """Find out which pools there should be now."""
        pools = {}
        for spec in (await self._kernelspecs.all()).values():
            pool = await self._plan_one(spec)
            if pool is not None:
                pools[spec.name] = pool
        self._plans = pools
        self._history.plan(pools.values(), time.time())
        self._launches.keep(self._history.wanted)
        self._pools.current = {name: pool for name, pool in pools.items() if pool.size}

    async def _plan_one(self, spec: Kernelspec) -> Pool | None:
        settings = self._live.current
        known = self._plans.get(spec.name)
        try:
            size = pool_size(spec, settings.kernels, datetime.now().astimezone())
            if size is None:
                return None
            proxy = self._proxies.get(spec.proxy_class)
            _check_keeps_pools(proxy)
            pool = plan_pool(spec, settings, size)
            pool = with_image(pool, await proxy.find_image(pool.launch))
        except ConfigurationError as exc:
            if self._reported.get(spec.name) != str(exc):
                self._reported[spec.name] = str(exc)
                _log.warning("Kernelspec %s has no pool: %s", spec.name, exc)
            return None
        except GatewayError as exc:  # the engine is away
            _log.debug("The pool of kernelspec %s is as it was: %s", spec.name, exc)
            return known
        self._reported.pop(spec.name, None)
        return pool

    def _balance(self, now: float) -> None:
        self._note_given_away(now)
        pools = {pool.key: pool for pool in self._plans.values()}
        members = self._members()
        found = self._find_balance(members)
        surplus = [members[workload] for workload in found.surplus]
        ending = [record for record in surplus if record.is_takeable]
        ending.extend(record for record in self._registry if record.is_dead_in_pool)
        for record in ending:
            self._tasks.begin_once(record, functools.partial(self._end, record))
        self._missing_since = {key: self._missing_since.get(key, now) for key in found.missing}
        for key in found.missing:
            if self._may_launch(key, now):
                self._tasks.begin_once(key, functools.partial(self._fill, pools[key]))

    async def _fill(self, pool: Pool) -> None:
        """Launch what is missing in a pool, after a moment in which other gateways may do so."""
        await asyncio.sleep(random.uniform(0, SPREAD_SECONDS))  # noqa: S311 - no secret
        now = asyncio.get_running_loop().time()
        for _ in range(self._find_balance(self._members()).missing.get(pool.key, 0)):
            if not self._may_launch(pool.key, now):
                break
            self._launches.begin(pool)

    def _members(self) -> dict[Workload, Record]:
        """Return the kernels that users can be given, now or soon.

        One that is cut off is none; it is one too many when it is back.
        """
        return {
            record.workload: record
            for record in self._registry
            if record.is_takeable
            or (record.is_pooled and record.is_starting and not record.is_over.is_set())
        }

    def _find_balance(self, members: Mapping[Workload, Record]) -> Balance:
        under_way = self._launches.under_way
        history = self._history
        pooled = {workload: record.is_takeable for workload, record in members.items()}
        return balance(history.wanted, history.gone, pooled, under_way, time.time())

    def _note_given_away(self, now: float) -> None:
        """Note when any gateway has given a kernel to a user."""
        given_away = {
            record.kernel_id
            for record in self._registry
            if record.workload.pool and not record.is_pooled
        }
        if given_away - self._given_away:
            self._pools.last_taken = now
        self._given_away = given_away

    def _may_launch(self, key: str, now: float) -> bool:
        load = Load(
            waiting=self._starter.waiting,
            launching=self._launches.launching,
            of_pool=self._launches.under_way.get(key, 0),
            since_taken=now - self._pools.last_taken,
            since_missing=now - self._missing_since.get(key, now),
        )
        return may_launch(load) and self._launches.may_try(key, now)

    async def _end(self, record: Record) -> None:
        """End a kernel unless a user takes it first."""
        try:
            await self._registry.end(record, DISCARD_SECONDS, only_pooled=True)
        except GatewayError as exc:
            _log.debug("Kernel %s stays in its pool: %s", record.kernel_id, exc)
        else:
            _log.info("Kernel %s was dead or one too many in its pool", record.kernel_id)


def _check_keeps_pools(proxy: BaseProcessProxyABC) -> None:
    if not proxy.keeps_pools:
        raise ConfigurationError(f"{type(proxy).__name__} keeps no pools: remove pool_size.")
