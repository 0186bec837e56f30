"""Sends changed culling settings to the agents of running kernels."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from enterprise_gateway.errors import GatewayError
from enterprise_gateway.services.kernels.planning.culling import effective_culling, times_of
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import KernelSettings, LiveSettings, Settings
from enterprise_gateway.settings.values.times import Times

MAX_UPDATES = 16
"""How many agents are told at once."""

_log = logging.getLogger(__name__)


class CullingUpdates:
    """Keeps the culling settings of agents equal to those of the gateway."""

    def __init__(
        self,
        live: LiveSettings,
        kernelspecs: Kernelspecs,
        registry: Registry,
        tasks: BackgroundTasks,
    ) -> None:
        """Send nothing yet.

        Args:
            live: the settings.
            kernelspecs: their own culling settings come before the gateway's.
            registry: all kernels.
            tasks: where the updates run.
        """
        self._live = live
        self._kernelspecs = kernelspecs
        self._registry = registry
        self._tasks = tasks
        self._sent = _relevant(live.current)

    def start(self) -> None:
        """Send the settings after each change from now on."""
        self._live.subscribe(self._on_settings)

    def _on_settings(self, settings: Settings) -> None:
        if _relevant(settings) != self._sent:
            self._sent = _relevant(settings)
            self._tasks.begin(self._send())

    async def _send(self) -> None:
        """Tell all agents, several at once: an engine may be slow to let paused ones go on."""
        specs = await self._kernelspecs.all()
        turns = asyncio.Semaphore(MAX_UPDATES)
        await asyncio.gather(*(self._update(record, specs, turns) for record in self._registry))

    async def _update(
        self, record: Record, specs: Mapping[str, Kernelspec], turns: asyncio.Semaphore
    ) -> None:
        settings = self._live.current.kernels
        async with turns:
            agent = record.agent
            if agent is None:
                return
            try:
                metadata, times = find_times(record, specs, settings)
                culling = effective_culling(settings.culling, metadata, times)
                await self._registry.wake(record)
                await agent.set_culling(culling)
            except GatewayError as exc:
                _log.warning("Kernel %s keeps its culling settings: %s", record.kernel_id, exc)


def find_times(
    record: Record, specs: Mapping[str, Kernelspec], settings: KernelSettings
) -> tuple[Mapping[str, Any], Times]:
    """Return what a kernel's kernelspec says of its times, and those of its user."""
    spec, workload = specs.get(record.kernel_name), record.workload
    times = times_of(workload.username, workload.usage.groups, settings.resources)
    return spec.spec.metadata if spec is not None else {}, times


def _relevant(settings: Settings) -> tuple[object, ...]:
    resources = settings.kernels.resources
    return settings.kernels.culling, resources.user_times, resources.group_times
