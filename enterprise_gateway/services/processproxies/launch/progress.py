"""The progress of one launch: how far the workload has come, and why it failed."""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

from enterprise_gateway.errors import GatewayError, UnavailableError
from enterprise_gateway.services.processproxies.contract import (
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.launch.base import (
    check_report,
    launch_failure,
)
from enterprise_gateway.services.processproxies.responses.report import Report
from enterprise_gateway.services.processproxies.scripts.runner import ScriptResult, ScriptRun
from enterprise_gateway.services.processproxies.steps import Step, StepRecorder
from enterprise_gateway.services.processproxies.workloads.sidecars import Observation

OUTPUT_TAIL_BYTES = 4096
"""What an error shows of the output of a workload that died."""
OUTPUT_TAIL_LINES = 50
"""The same, where the engine counts in lines."""
MORE_MEMORY = (
    "Ask for more (KERNEL_MEMORY), or raise memory in resources of the kernelspec's config."
)
IDLE_CPU_SECONDS = 0.5
"""A container that has used less CPU time than this waits for something."""
_SCRIPT_SECONDS = 0.5
"""How long the launch script of a dead workload may take to give a clearer reason."""


class LaunchProgress(ABC):
    """The observer of the launch of one kernel."""

    def __init__(self, steps: StepRecorder, predecessors: Collection[str]) -> None:
        """Begin to observe.

        Args:
            steps: of the start, in which those of the workload begin.
            predecessors: engine ids of the kernel's former workloads, which are ignored.
        """
        self._steps = steps
        self._predecessors = predecessors
        self.latest: Observation | None = None
        """The last observation, None while there is no workload."""
        self.moved = asyncio.Event()
        """Set at each observation."""
        loop = asyncio.get_running_loop()
        self.death: asyncio.Future[Observation] = loop.create_future()
        """The workload after its death."""
        self.failure: asyncio.Future[BaseException] = loop.create_future()
        """The error by which `fail` ended the launch."""

    def on_observation(self, observation: Observation) -> None:
        """Record a change that `EngineWatch` saw."""
        if observation.engine_id in self._predecessors:
            return
        self.latest = observation
        self.moved.set()
        state = observation.workload.state
        if state is not WorkloadState.DEAD:
            self._steps.begin(Step.BOOT if state is WorkloadState.RUNNING else Step.START)
        elif not self.death.done():
            self.death.set_result(observation)

    def fail(self, error: BaseException) -> None:
        """End the launch with an error."""
        if not self.failure.done():
            self.failure.set_result(error)

    def running(self, *, has_sidecar: bool) -> Workload | None:
        """Return the workload once it has been seen to run, at its agent's address.

        Args:
            has_sidecar: whether the agent is in a sidecar, which may not have been seen yet.
        """
        latest = self.latest
        if latest is None or latest.workload.endpoint is None:
            return None
        return latest.workload if latest.sidecar_id or not has_sidecar else None

    @property
    def may_be_pulling(self) -> bool:
        """Whether a node may be pulling the image for the workload."""
        return False

    def close(self) -> None:  # noqa: B027 - a hook: not every kind has something to release
        """Stop observing."""

    async def cpu_seconds(self) -> float | None:
        """Return the CPU time that the workload has used, None if unknown."""
        return None

    def describe(
        self,
        script: ScriptRun | None,
        response_address: str,
        senders: Sequence[str],
        cpu_seconds: float | None,
    ) -> str:
        """Return a sentence about how far the launch has come.

        Args:
            script: the launch script, if it was started.
            response_address: where the kernel was told to report.
            senders: the addresses from which launchers of this kernel have reported.
            cpu_seconds: the CPU time that the workload has used, None if unknown.
        """
        if self.latest is not None:
            if self.latest.workload.state is WorkloadState.RUNNING:
                if self.latest.sidecar_id:
                    return "its sidecar runs, but the kernel has not answered it yet."
                endpoint = self.latest.workload.endpoint
                if senders and endpoint is not None:
                    return (
                        f"its launcher reported from {senders[-1]}, but its container's address is "
                        f"{endpoint.host}, and only reports from there are accepted (address "
                        "translation between containers and the gateway looks like this)."
                    )
                return (
                    f"its container runs, but nothing has reported to {response_address} yet"
                    f"{_explain_silence(cpu_seconds)}"
                )
            if self.latest.workload.state is WorkloadState.STARTING:
                return self.describe_start(self.latest)
        if script is None or not script.result.done():
            return (
                "the launch script has not ended yet. If the engine is pulling the image, the next "
                "start may have to begin again: pull it on the engine first (docker pull)."
            )
        return "the launch script has ended, but there is no container with the kernel's labels."

    @abstractmethod
    def describe_start(self, observation: Observation) -> str:
        """Return a sentence about what a workload that does not run yet is waiting for."""

    @abstractmethod
    async def explain_death(self, observation: Observation) -> str:
        """Return the reason of a death, followed by the last output."""


def _explain_silence(cpu_seconds: float | None) -> str:
    """Return the end of a sentence: why a container that runs may not have reported yet."""
    if cpu_seconds is None or cpu_seconds < IDLE_CPU_SECONDS:
        return " (a firewall between containers and this address looks the same)."
    return (
        f". It has used {cpu_seconds:.1f} s of CPU time, so it is probably still starting, on a "
        "busy machine: try again when fewer kernels are being started."
    )


def explain_sidecars_death(reason: str, output: str) -> str:
    """Return the reason of a launch whose sidecar ended before the kernel was ready."""
    return (
        f"{reason}. EG_SIDECAR_IMAGE must name an image that the engine has or can pull, and "
        f"that contains the kernel agent.\n{output.strip()}"
    )


def has_failed(script: ScriptRun | None) -> bool:
    """Return whether a launch script has ended and failed."""
    is_done = script is not None and script.result.done()
    return script is not None and is_done and not script.result.result().succeeded


def script_error(request: LaunchRequest, result: ScriptResult) -> GatewayError:
    """Return the error for a launch script that failed."""
    output = result.output.strip()
    if result.ending == f"exit code {os.EX_TEMPFAIL}":
        return UnavailableError(str(launch_failure(request, output)))
    return launch_failure(request, f"the launch script failed ({result.ending}): {output}")


async def until_ready(
    request: LaunchRequest,
    report: asyncio.Future[Report],
    script: ScriptRun,
    progress: LaunchProgress,
) -> None:
    """Wait until the kernel reports, its script or its workload fails, or the launch is ended.

    Raises:
        LaunchError: the kernel is not ready.
        UnavailableError: the engine did not answer the launch script, or the request for a sidecar.
    """
    waited: set[asyncio.Future[Any]] = {report, script.result, progress.death, progress.failure}
    while not report.done():
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if report.done():
            break
        if progress.death.done() and not script.result.done():
            await asyncio.wait({script.result}, timeout=_SCRIPT_SECONDS)
        if script.result.done():
            waited.discard(script.result)
            result = script.result.result()
            if not result.succeeded:
                raise script_error(request, result)
        if progress.death.done():
            raise launch_failure(request, await progress.explain_death(progress.death.result()))
        if progress.failure.done():
            raise progress.failure.result()
    check_report(report.result(), request)
