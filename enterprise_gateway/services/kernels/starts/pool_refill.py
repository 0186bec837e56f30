"""Keeps the pools full, and ends what is too many in them."""

import asyncio
import contextlib
import functools
import logging
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace

from enterprise_gateway.errors import ConfigurationError, GatewayError
from enterprise_gateway.services.kernels.planning.launches import derive_agent_token
from enterprise_gateway.services.kernels.pools.balance import balance
from enterprise_gateway.services.kernels.pools.pool import Pool, plan_pool, pool_size
from enterprise_gateway.services.kernels.pools.pools import DISCARD_SECONDS, Pools
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernels.starts.starter import Starter
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC, LaunchRequest
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings

CHECK_SECONDS = 1.0
PLAN_SECONDS = 10.0
"""How often kernelspecs and images are looked at."""
QUIET_SECONDS = 2.0
"""How long after a kernel was taken the next is launched: its user's first cells come first."""
SPREAD_SECONDS = 0.5
"""Gateways that see a gap at the same time fill it at different times, and see each other's."""
MAX_LAUNCHES = 2
FIRST_PAUSE_SECONDS = 2.0
MAX_FAILURES = 5
"""After so many in a row a pool is left alone, until its kernelspec, image or settings change."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Trouble:
    """The failures of a pool's launches in a row."""

    failures: int = 0
    next_try: float = 0.0
    """By the event loop's clock."""

    def add(self, now: float) -> None:
        """Count one more, after which the next launch waits twice as long."""
        self.next_try = now + FIRST_PAUSE_SECONDS * 2**self.failures
        self.failures += 1

    def may_launch(self, now: float) -> bool:
        """Say whether another launch may be tried now."""
        return self.failures < MAX_FAILURES and now >= self.next_try


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
        self._launching: Counter[str] = Counter()
        self._trouble: dict[str, _Trouble] = {}
        self._outdated: set[str] = set()
        self._reported: dict[str, str] = {}

    def start(self) -> None:
        """Begin to keep the pools full."""
        self._live.subscribe(lambda _: self._changed.set())
        self._tasks.begin(self._run())

    async def close(self) -> None:
        """Stop. Kernels in pools stay, for other gateways and later ones."""
        await self._tasks.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_plan = loop.time()
        while True:
            try:
                if loop.time() >= next_plan or self._changed.is_set():
                    self._changed.clear()
                    next_plan = loop.time() + PLAN_SECONDS
                    await self._plan()
                if self._pools.current or self._outdated:
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
        keys = {pool.key for pool in pools.values()}
        self._outdated |= {pool.key for pool in self._pools.current.values()} - keys
        self._outdated -= keys
        self._trouble = {key: one for key, one in self._trouble.items() if key in keys}
        self._pools.current = pools

    async def _plan_one(self, spec: Kernelspec) -> Pool | None:
        settings = self._live.current
        known = self._pools.current.get(spec.name)
        try:
            if not pool_size(spec, settings):
                return None
            proxy = self._proxies.get(spec.proxy_class)
            _check_keeps_pools(proxy)
            pool = plan_pool(spec, settings)
            image = await proxy.find_image(pool.launch)
            pool = replace(pool, image_id=image.image_id if image is not None else "")
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
        pools = {pool.key: pool for pool in self._pools.current.values()}
        members = {
            record.workload: record
            for record in self._registry
            if record.is_pooled and not record.is_over.is_set() and not record.is_ending
            # one that is cut off serves no user now; it is one too many when it is back
            if record.is_starting or not record.is_silent.is_set()
        }
        found = balance(
            {key: pool.size for key, pool in pools.items()},
            self._outdated,
            members,
            self._launching,
            time.time(),
        )
        for workload in found.surplus:
            record = members[workload]
            if record.is_takeable:
                self._tasks.begin_once(record, functools.partial(self._end, record))
        for key, count in found.missing.items():
            for _ in range(count):
                if not self._may_launch(key, now):
                    break
                self._launching[key] += 1
                self._tasks.begin(self._launch(pools[key]))

    def _may_launch(self, key: str, now: float) -> bool:
        """Say whether a pool may be refilled now: users come first."""
        if self._launching.total() >= MAX_LAUNCHES or self._starter.waiting:
            return False
        is_quiet = now - self._pools.last_taken >= QUIET_SECONDS
        trouble = self._trouble.get(key, _Trouble())
        return trouble.may_launch(now) and (is_quiet or not self._pools.ready(key))

    async def _launch(self, pool: Pool) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(random.uniform(0, SPREAD_SECONDS))  # noqa: S311 - no secret
            launch = _own_launch(pool, self._live.current.cluster_secret)
            proxy = self._proxies.get(pool.proxy_class)
            record = await self._starter.launch_for_pool(proxy, launch)
            try:
                _check_takeable(record)
            except ConfigurationError:
                await self._registry.end(record, DISCARD_SECONDS)
                raise
        except GatewayError as exc:
            trouble = self._trouble.setdefault(pool.key, _Trouble())
            trouble.add(loop.time())
            end = " It is not filled until that changes." * (trouble.failures == MAX_FAILURES)
            _log.warning(
                "The pool of kernelspec %s could not be filled: %s%s", pool.kernel_name, exc, end
            )
        else:
            self._trouble.pop(pool.key, None)
            _log.info("Kernel %s (%s) is ready in its pool", launch.kernel_id, pool.kernel_name)
        finally:
            self._launching[pool.key] -= 1

    async def _end(self, record: Record) -> None:
        """End a kernel unless a user takes it first."""
        agent = record.agent
        if agent is None:
            return
        try:
            await agent.shutdown(DISCARD_SECONDS, only_pooled=True)
            await record.proxy.remove_workload(record.workload)
        except GatewayError as exc:
            _log.debug("Kernel %s stays in its pool: %s", record.kernel_id, exc)
        else:
            _log.info("Kernel %s was one too many in its pool", record.kernel_id)
            self._registry.forget(record)


def _check_keeps_pools(proxy: BaseProcessProxyABC) -> None:
    if not proxy.keeps_pools:
        raise ConfigurationError(f"{type(proxy).__name__} keeps no pools: remove pool_size.")


def _check_takeable(record: Record) -> None:
    if not record.is_takeable:
        raise ConfigurationError(
            "Its kernels cannot be given to users while they run: their launch script sets no "
            "label enterprise-gateway.pool, their image has an older agent, or they run beside a "
            "sidecar."
        )


def _own_launch(pool: Pool, cluster_secret: bytes) -> LaunchRequest:
    kernel_id = str(uuid.uuid4())
    return replace(
        pool.launch,
        kernel_id=kernel_id,
        env={**pool.launch.env, "KERNEL_ID": kernel_id},
        agent_token=derive_agent_token(cluster_secret, kernel_id),
        pool=pool.key,
    )
