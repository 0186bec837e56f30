"""One attempt to launch a kernel on an engine: what it consists of, and how it is given up."""

from dataclasses import dataclass

from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.launch.progress import LaunchProgress
from enterprise_gateway.services.processproxies.launch.sidecar import SidecarStart
from enterprise_gateway.services.processproxies.responses.launcher_reports import LauncherReports
from enterprise_gateway.services.processproxies.responses.listener import ResponseEndpoint
from enterprise_gateway.services.processproxies.scripts.runner import ScriptRun


@dataclass(slots=True)
class LaunchAttempt:
    """A launch under way."""

    request: LaunchRequest
    endpoint: ResponseEndpoint
    """Where the kernel reports."""
    progress: LaunchProgress
    reports: LauncherReports
    sidecar: SidecarStart
    script: ScriptRun | None = None
    """None until it is started."""

    async def describe(self) -> str:
        """Return a sentence that says how far the launch has come."""
        await self.reports.identify()
        cpu_seconds = await self.progress.cpu_seconds()
        return self.progress.describe(
            self.script, self.endpoint.address, self.reports.senders, cpu_seconds
        )

    async def stop(self) -> bool:
        """Stop everything that makes the engine create something.

        Returns:
            Whether the engine may still create what it was asked for.
        """
        may_create = await self.sidecar.stop()
        if self.script is not None:
            await self.script.kill()
            may_create = may_create or self.script.result.result().was_cut_short
        return may_create
