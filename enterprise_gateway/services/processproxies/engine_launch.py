"""One workload on its way up: how far it has come, and why it got no further."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

from enterprise_gateway.errors import LaunchError
from enterprise_gateway.services.processproxies.contract import (
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.engine_watch import Sighting
from enterprise_gateway.services.processproxies.launcher_reports import LauncherReports
from enterprise_gateway.services.processproxies.reporting import check_report
from enterprise_gateway.services.processproxies.reports import Report
from enterprise_gateway.services.processproxies.scripts import ScriptRun

OUTPUT_TAIL_BYTES = 4096
OUTPUT_TAIL_LINES = 50
_SCRIPT_DEADLINE = 0.5
"""Seconds that the launch script of a workload which died is given to say why in better words."""


class LaunchProgress(ABC):
    """The observer of the launch of one kernel."""

    def __init__(self, predecessors: Collection[str]) -> None:
        """Begin to observe.

        Args:
            predecessors: engine ids of the kernel's former workloads, whose end means nothing.
        """
        self._predecessors = predecessors
        self.latest: Sighting | None = None
        """None as long as there is no workload."""
        self.is_accompanied = False
        """Whether the engine is asked, or was asked, for a companion."""
        self.moved = asyncio.Event()
        """Set at each sighting."""
        self.death: asyncio.Future[Sighting] = asyncio.get_running_loop().create_future()

    def observe(self, sighting: Sighting) -> None:
        """Take note of what `EngineWatch` saw."""
        if sighting.engine_id in self._predecessors:
            return
        self.latest = sighting
        self.moved.set()
        if sighting.workload.state is WorkloadState.DEAD and not self.death.done():
            self.death.set_result(sighting)

    def running(self) -> Workload | None:
        """Return the workload if it has been seen to run, at its agent's address."""
        latest = self.latest
        if latest is None or latest.workload.endpoint is None:
            return None
        # The agent may be in a companion that has not been seen yet.
        return latest.workload if latest.companion_id or not self.is_accompanied else None

    def close(self) -> None:  # noqa: B027 - a hook: not every kind has something to release
        """Stop observing."""

    def describe(
        self, script: ScriptRun | None, response_address: str, senders: Sequence[str]
    ) -> str:
        """Say how far the launch has come, as a sentence.

        Args:
            script: the launch script, if it was started.
            response_address: where the kernel was told to report.
            senders: the addresses from which launchers that are no agents have done so.
        """
        if self.latest is not None:
            if self.latest.workload.state is WorkloadState.RUNNING:
                if self.latest.companion_id:
                    return "its companion has not found the kernel ready yet."
                endpoint = self.latest.workload.endpoint
                if senders and endpoint is not None:
                    return (
                        f"its launcher reported, but from {senders[-1]}, while the address of its "
                        f"container is {endpoint.host}; only from there that is believed (address "
                        "translation between containers and the gateway would look like this)."
                    )
                return (
                    f"its container runs, but nothing has reported to {response_address} yet "
                    "(a firewall between containers and this address would look the same)."
                )
            if self.latest.workload.state is WorkloadState.STARTING:
                return self.describe_start(self.latest)
        if script is None or not script.result.done():
            return "the launch script has not ended yet (the engine may be pulling the image)."
        return "the launch script has ended, but there is no container with the kernel's labels."

    @abstractmethod
    def describe_start(self, sighting: Sighting) -> str:
        """Say what a workload that does not run yet is waiting for, as a sentence."""

    @abstractmethod
    async def explain_death(self, sighting: Sighting) -> str:
        """Say why a workload died, and what it printed last."""


def explain_companions_death(reason: str, output: str) -> str:
    """Say why a companion ended before the kernel was ready."""
    return (
        f"{reason}. EG_COMPANION_IMAGE must be an image that the engine can have, with the kernel "
        f"agent in it.\n{output.strip()}"
    )


async def until_launcher_reports(
    reports: LauncherReports, progress: LaunchProgress
) -> tuple[Sighting, str]:
    """Wait until a launcher that is no agent reports from the kernel's container.

    What one reports is believed for the address from which it comes: it must be the one that the
    engine gave the container.

    Returns:
        The kernel, and `EG_AGENT_ATTACH` for its companion.
    """
    while True:
        kernel = progress.latest
        address = kernel.workload.endpoint if kernel is not None else None
        info = reports.get(address.host) if address is not None else None
        if kernel is not None and address is not None and info is not None:
            return kernel, info.attachment(address.host)
        reports.arrived.clear()
        progress.moved.clear()
        changes = [
            asyncio.ensure_future(event.wait()) for event in (reports.arrived, progress.moved)
        ]
        try:
            await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for change in changes:
                change.cancel()


async def until_ready(
    request: LaunchRequest,
    report: asyncio.Future[Report],
    script: ScriptRun,
    progress: LaunchProgress,
    accompanying: asyncio.Task[None],
) -> None:
    """Wait for the first of report, script failure and workload death, and judge it.

    Raises:
        LaunchError: the kernel is not ready.
        UnavailableError: the engine did not answer when a companion was to be made.
    """
    subject = f"Kernel {request.kernel_id} ({request.kernel_name}) did not start"
    waited: set[asyncio.Future[Any]] = {report, script.result, progress.death, accompanying}
    while not report.done():
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if report.done():
            break
        if progress.death.done() and not script.result.done():
            await asyncio.wait({script.result}, timeout=_SCRIPT_DEADLINE)
        if script.result.done():
            waited.discard(script.result)
            result = script.result.result()
            if not result.succeeded:
                raise LaunchError(
                    f"{subject}: the launch script failed ({result.ending}): "
                    f"{result.output.strip()}"
                )
        if progress.death.done():
            words = await progress.explain_death(progress.death.result())
            raise LaunchError(f"{subject}: {words}".rstrip())
        if accompanying.done():
            waited.discard(accompanying)
            try:
                accompanying.result()
            except LaunchError as exc:
                raise LaunchError(f"{subject}: {exc}") from exc
    check_report(report.result(), request)
