"""One container on its way up: what it prints, and whether it dies before its kernel is ready."""

import asyncio
import contextlib
from collections.abc import Collection

from enterprise_gateway.errors import GatewayError
from enterprise_gateway.services.processproxies.contract import WorkloadState
from enterprise_gateway.services.processproxies.couples import COMPANION_ENDED
from enterprise_gateway.services.processproxies.docker_containers import DockerContainers
from enterprise_gateway.services.processproxies.engine_launch import (
    OUTPUT_TAIL_BYTES,
    OUTPUT_TAIL_LINES,
    LaunchProgress,
    explain_companions_death,
)
from enterprise_gateway.services.processproxies.engine_watch import Sighting

_OUTPUT_DEADLINE = 0.5
"""Seconds that the last output of a dead container is waited for."""


class ContainerLaunch(LaunchProgress):
    """The observer of the launch of one kernel in a container."""

    def __init__(self, containers: DockerContainers, predecessors: Collection[str]) -> None:
        super().__init__(predecessors)
        self._containers = containers
        self._tail = b""
        self._reading: asyncio.Task[None] | None = None

    def observe(self, sighting: Sighting) -> None:
        """See the base class."""
        super().observe(sighting)
        if self._reading is None and sighting.workload.state is not WorkloadState.DEAD:
            self._reading = asyncio.create_task(self._read_output(sighting.engine_id))

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()

    async def explain_death(self, sighting: Sighting) -> str:
        """See the base class."""
        reason = sighting.workload.exit_reason
        if reason.startswith(COMPANION_ENDED):
            output = ""
            with contextlib.suppress(GatewayError):
                output = await self._containers.log_tail(sighting.companion_id, OUTPUT_TAIL_LINES)
            return explain_companions_death(reason, output)
        advice = ""
        if "out of memory" in reason:
            advice = " Raise mem_limit in the kernelspec's launch script."
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=_OUTPUT_DEADLINE)
        output = self._tail.decode(errors="replace").strip()
        return f"its container ended before the kernel was ready: {reason}.{advice}\n{output}"

    def describe_start(self, sighting: Sighting) -> str:  # noqa: ARG002 - Docker says no more
        """See the base class."""
        return "the engine has made its container, but not started it yet."

    async def _read_output(self, container_id: str) -> None:
        with contextlib.suppress(
            GatewayError
        ):  # the output is a courtesy; the death is told anyway
            async for chunk in self._containers.output(container_id):
                self._tail = (self._tail + chunk)[-OUTPUT_TAIL_BYTES:]
