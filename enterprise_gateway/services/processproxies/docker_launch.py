"""One container on its way up: what it prints, and whether it dies before its kernel is ready."""

import asyncio
import contextlib

from enterprise_gateway.errors import GatewayError
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine

OUTPUT_TAIL_BYTES = 4096
_OUTPUT_DEADLINE = 0.5
"""Seconds that the last output of a dead container is waited for."""


class ContainerLaunch:
    """The observer of the launch of one kernel."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._tail = b""
        self._reading: asyncio.Task[None] | None = None
        self.state: WorkloadState | None = None
        """None as long as there is no container."""
        self.death: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Settled with the exit reason."""

    def observe(self, action: str, workload: Workload, container_id: str) -> None:
        """Take note of an event; called by `DockerWatch`."""
        self.state = workload.state
        if self._reading is None and workload.state is not WorkloadState.DEAD:
            self._reading = asyncio.create_task(self._read_output(container_id))
        if workload.state is WorkloadState.DEAD and action != "list" and not self.death.done():
            self.death.set_result(workload.exit_reason)

    async def output(self) -> str:
        """Return the end of what the dead container printed."""
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=_OUTPUT_DEADLINE)
        return self._tail.decode(errors="replace").strip()

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read_output(self, container_id: str) -> None:
        with contextlib.suppress(
            GatewayError
        ):  # the output is a courtesy; the death is told anyway
            async for chunk in self._engine.output(container_id):
                self._tail = (self._tail + chunk)[-OUTPUT_TAIL_BYTES:]
