"""Follows the workloads of process proxies."""

import asyncio
import logging
from collections.abc import Callable

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.kernels.registry.lookup import WorkloadLookup
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC, Workload
from enterprise_gateway.services.tasks import BackgroundTasks

RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 2.0

_log = logging.getLogger(__name__)


class WorkloadFollower:
    """Reports every workload of the process proxies once, then each change of one."""

    def __init__(
        self,
        lookup: WorkloadLookup,
        on_workload: Callable[[BaseProcessProxyABC, Workload], None],
    ) -> None:
        """Follow no process proxy yet.

        Args:
            lookup: lists the workloads to begin with.
            on_workload: called with each workload, and again after each change of it.
        """
        self._lookup = lookup
        self._on_workload = on_workload
        self._tasks = BackgroundTasks()

    def follow(self, proxy: BaseProcessProxyABC) -> None:
        """Begin to follow a process proxy, unless that has begun."""
        self._tasks.begin_once(proxy, lambda: self._follow(proxy))

    async def close(self) -> None:
        """Stop following."""
        await self._tasks.cancel()

    async def _follow(self, proxy: BaseProcessProxyABC) -> None:
        retry = RETRY_SECONDS
        while True:
            try:
                for workload in await self._lookup.list(proxy):
                    self._on_workload(proxy, workload)
                async for workload in proxy.watch():
                    self._lookup.mark_present(proxy)
                    self._on_workload(proxy, workload)
                    retry = RETRY_SECONDS
            except UnavailableError as exc:
                _log.debug("%s: %s", type(proxy).__name__, exc)
            except Exception:  # noqa: BLE001 - a task's root: following must go on after any error
                _log.exception("Following the workloads of %s failed", type(proxy).__name__)
            await asyncio.sleep(retry)
            retry = min(2 * retry, MAX_RETRY_SECONDS)
