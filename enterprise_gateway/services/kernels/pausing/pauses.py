"""Pauses idle kernels, and has them go on when their agents are to end them.

Each replica does both: pausing or resuming a kernel twice does no harm. A request that needs a
paused kernel has it go on by itself (`Registry.wake`).
"""

import asyncio
import functools
import logging
import time
from collections.abc import Mapping

from enterprise_gateway.errors import (
    ConfigurationError,
    ConflictError,
    GatewayError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.kernels.pausing.idleness import end_of, is_idle
from enterprise_gateway.services.kernels.planning.culling import IdleTimes, effective_idle_times
from enterprise_gateway.services.kernels.registry.culling import find_times
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings

PAUSE_SECONDS = 5.0
"""How long it may take from the question to a kernel's agent until the kernel is paused.

Of a request that began after the agent's answer, the replica that has passed it on knows for longer
(`DelaySettings.request_seconds`).
"""
MAX_PAUSES = 4
"""More wait, and their time begins when it is their turn."""

_log = logging.getLogger(__name__)


class IdlePauses:
    """Looks after the kernels of all process proxies that can pause them."""

    def __init__(self, live: LiveSettings, kernelspecs: Kernelspecs, registry: Registry) -> None:
        """Begin nothing yet.

        Args:
            live: the settings.
            kernelspecs: their own settings go before the gateway's.
            registry: all kernels.
        """
        self._live = live
        self._kernelspecs = kernelspecs
        self._registry = registry
        self._pauses = asyncio.Semaphore(MAX_PAUSES)
        self._tasks = BackgroundTasks()
        self._warned: set[str] = set()
        """Names of kernelspecs, and of classes of errors, of which there was a warning."""

    def start(self) -> None:
        """Begin to look for kernels that are idle."""
        self._tasks.begin(self._run())

    async def close(self) -> None:
        """Stop. Kernels stay paused, for requests to other gateways and later ones."""
        await self._tasks.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:  # noqa: BLE001 - a task's root
                _log.exception("Looking for idle kernels failed. Trying again.")
            await asyncio.sleep(self._live.current.delays.pause_check_seconds)

    async def _look(self) -> None:
        records = [
            record
            for record in self._registry
            if record.proxy.can_pause and not (record.is_dead or record.is_pooled)
        ]
        if not records:
            return
        specs = await self._kernelspecs.all()
        for record in records:
            try:
                times = self._times_of(record, specs)
            except ConfigurationError as exc:
                self._warn_once(record.kernel_name, record, exc)
                continue
            if record.is_paused:
                if not _may_stay_paused(record, times):
                    self._tasks.begin_once(
                        (self._resume, record), functools.partial(self._resume, record)
                    )
            elif self._may_be_paused(record, times):
                self._tasks.begin_once(
                    (self._pause, record), functools.partial(self._pause, record, times)
                )

    def _times_of(self, record: Record, specs: Mapping[str, Kernelspec]) -> IdleTimes:
        settings = self._live.current.kernels
        return effective_idle_times(settings, *find_times(record, specs, settings))

    def _may_be_paused(self, record: Record, times: IdleTimes) -> bool:
        """Say whether a kernel has been idle for long enough, as far as this replica can see."""
        state, timeout = record.state, times.pause_idle_timeout
        if not timeout or state is None or not is_idle(state):
            return False
        if record.is_paused or record.is_silent.is_set() or record.is_in_use:
            return False
        if times.cull_gpu_idle_timeout > 0 and record.workload.usage.gpus:
            return False  # its agent has to see how long its GPUs are idle
        # other replicas undo a pause within the time that a request of theirs may take
        least = max(timeout, self._live.current.delays.request_seconds)
        quiet_seconds = asyncio.get_running_loop().time() - record.quiet_since
        is_over = end_of(state, record.workload.created, times) <= time.time()
        return quiet_seconds >= least and not is_over

    async def _pause(self, record: Record, times: IdleTimes) -> None:
        """Pause a kernel if its agent says now that it is idle."""
        loop = asyncio.get_running_loop()
        async with self._pauses:
            begun = loop.time()
            await self._registry.refresh_states([record])
            agent = record.agent
            if agent is None or agent.is_failing or not self._may_be_paused(record, times):
                return
            try:
                await record.proxy.pause(record.workload)
            except GatewayError as exc:
                if not isinstance(exc, ConflictError | NotFoundError):  # another replica's work
                    self._warn_once(type(exc).__name__, record, exc)
                record.note_news()
                is_late = isinstance(exc, UnavailableError)  # it may still be done
            else:
                _log.info("Kernel %s is paused until it is used", record.kernel_id)
                is_late = loop.time() - begun > PAUSE_SECONDS
            if is_late:
                await self._resume(record)

    def _warn_once(self, cause: str, record: Record, error: GatewayError) -> None:
        """Log the first of the kernels that are not paused for one cause."""
        if cause not in self._warned:
            self._warned.add(cause)
            _log.warning(
                "Kernel %s is not paused, and others neither for the same cause: %s",
                record.kernel_id,
                error,
            )

    async def _resume(self, record: Record) -> None:
        try:
            await self._registry.wake(record)
        except GatewayError as exc:
            _log.warning("Kernel %s stays paused: %s", record.kernel_id, exc)


def _may_stay_paused(record: Record, times: IdleTimes) -> bool:
    """Say whether a paused kernel need not go on by itself.

    One that is in use is paused by an operator, or by a replica that did not know of a request in
    time; only where replicas pause kernels it is not left so.
    """
    state = record.state
    if state is None:
        return False
    is_misplaced = times.pause_idle_timeout > 0 and not is_idle(state)
    return not is_misplaced and end_of(state, record.workload.created, times) > time.time()
