"""The launch of a kernel in a container: its output, an early death, and its sidecar."""

import asyncio
import contextlib
from collections.abc import Collection

from enterprise_gateway.errors import (
    ConflictError,
    GatewayError,
    LaunchError,
    NotFoundError,
)
from enterprise_gateway.services.processproxies.contract import WorkloadState
from enterprise_gateway.services.processproxies.engine.containers import DockerContainers
from enterprise_gateway.services.processproxies.launch.progress import (
    MORE_MEMORY,
    OUTPUT_TAIL_BYTES,
    OUTPUT_TAIL_LINES,
    LaunchProgress,
    explain_sidecars_death,
)
from enterprise_gateway.services.processproxies.pulls.pulls import Pulls
from enterprise_gateway.services.processproxies.steps import StepRecorder
from enterprise_gateway.services.processproxies.workloads.sidecar_specs import (
    Sidecar,
    container_config,
)
from enterprise_gateway.services.processproxies.workloads.sidecars import (
    SIDECAR_ENDED,
    Observation,
)

_STATS_SECONDS = 5.0
_OUTPUT_SECONDS = 0.5
"""How long to wait for the last output of a dead container."""


async def create_sidecar_container(
    containers: DockerContainers, pulls: Pulls, sidecar: Sidecar
) -> None:
    """Create and start a sidecar's container; the image is pulled if the engine does not have it.

    Raises:
        LaunchError: the engine refuses.
        UnavailableError: it does not answer.
    """
    config = container_config(sidecar)
    try:
        try:
            container_id = await containers.create(sidecar.name, config)
        except ConflictError:  # left over from an earlier launch of the kernel
            await containers.remove(sidecar.name)
            container_id = await containers.create(sidecar.name, config)
        except NotFoundError:
            await _pull_sidecar_image(pulls, sidecar.image)
            container_id = await containers.create(sidecar.name, config)
        await containers.start(container_id)
    except (ConflictError, NotFoundError) as exc:
        raise LaunchError(
            f"it needs a sidecar, which could not be created from the image {sidecar.image} "
            f"(EG_SIDECAR_IMAGE): {exc}"
        ) from exc


async def _pull_sidecar_image(pulls: Pulls, image: str) -> None:
    try:
        await pulls.pull(image)
    except LaunchError as exc:
        raise LaunchError(
            f"it needs a sidecar, whose image {image} is not on this engine. {exc} Build or load "
            "it, or set EG_SIDECAR_IMAGE."
        ) from exc


class ContainerLaunch(LaunchProgress):
    """The observer of the launch of one kernel in a container."""

    def __init__(
        self, containers: DockerContainers, steps: StepRecorder, predecessors: Collection[str]
    ) -> None:
        super().__init__(steps, predecessors)
        self._containers = containers
        self._tail = b""
        self._reading: asyncio.Task[None] | None = None

    def on_observation(self, observation: Observation) -> None:
        """See the base class."""
        super().on_observation(observation)
        if self._reading is None and observation.workload.state is not WorkloadState.DEAD:
            self._reading = asyncio.create_task(self._read_output(observation.engine_id))

    def close(self) -> None:
        """Stop reading the output."""
        if self._reading is not None:
            self._reading.cancel()

    async def explain_death(self, observation: Observation) -> str:
        """See the base class."""
        reason = observation.workload.exit_reason
        if reason.startswith(SIDECAR_ENDED):
            output = ""
            with contextlib.suppress(GatewayError):
                output = await self._containers.log_tail(observation.sidecar_id, OUTPUT_TAIL_LINES)
            return explain_sidecars_death(reason, output)
        advice = ""
        if "out of memory" in reason:
            advice = f" {MORE_MEMORY}"
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=_OUTPUT_SECONDS)
        output = self._tail.decode(errors="replace").strip()
        output = output or await self._read_log(observation.engine_id)
        return f"its container ended before the kernel was ready: {reason}.{advice}\n{output}"

    async def cpu_seconds(self) -> float | None:
        """See the base class."""
        if self.latest is None or self.latest.workload.state is not WorkloadState.RUNNING:
            return None
        try:
            async with asyncio.timeout(_STATS_SECONDS):
                return await self._containers.cpu_seconds(self.latest.engine_id)
        except (GatewayError, TimeoutError):  # the error message is only less clear without it
            return None

    def describe_start(self, observation: Observation) -> str:  # noqa: ARG002 - the engine knows no more
        """See the base class."""
        return "the engine has created its container, but not started it yet."

    async def _read_log(self, container_id: str) -> str:
        """Return what a container printed, or why its log cannot be read."""
        try:
            return await self._containers.log_tail(container_id, OUTPUT_TAIL_LINES)
        except GatewayError as exc:
            return f"Its output cannot be read. {exc}"

    async def _read_output(self, container_id: str) -> None:
        # The death is reported even if the output cannot be read.
        with contextlib.suppress(GatewayError):
            async for chunk in self._containers.output(container_id):
                self._tail = (self._tail + chunk)[-OUTPUT_TAIL_BYTES:]
