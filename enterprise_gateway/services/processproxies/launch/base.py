"""The base of the built-in process proxies: shared tools, and errors of launches."""

from dataclasses import dataclass

from enterprise_gateway.errors import LaunchError, LaunchTimeoutError
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC, LaunchRequest
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.injection.bundle import BundleMaker
from enterprise_gateway.services.processproxies.pulls.pulls import Pulls
from enterprise_gateway.services.processproxies.responses.listener import ResponseListener
from enterprise_gateway.services.processproxies.responses.report import Report, ReportStatus
from enterprise_gateway.services.processproxies.scripts.runner import ScriptRunner
from enterprise_gateway.services.processproxies.steps import Step
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings


@dataclass(frozen=True, slots=True)
class LaunchTools:
    """The tools that all process proxies of a gateway share."""

    responses: ResponseListener
    """Receives the agents' reports."""
    scripts: ScriptRunner
    """Runs launch scripts."""
    engine: DockerEngine
    """The Docker engine that the settings name."""
    bundles: BundleMaker
    """Makes the agent's bundle, to be injected into images without an agent."""
    pulls: Pulls
    """Has that engine pull images."""


class ReportingProcessProxy(BaseProcessProxyABC):
    """A process proxy whose kernels report to the response listener.

    Bring-your-own classes may derive from it as well as from `BaseProcessProxyABC`. It is made with
    `(settings, tools)`, where the latter is made with `(settings)`. Subclasses begin work that must
    survive a cancelled call, such as cleaning up, by `self._tasks`; `close` waits for it.
    """

    def __init__(self, settings: LiveSettings, tools: LaunchTools) -> None:
        """Store the settings and tools; nothing is contacted yet."""
        super().__init__(settings)
        self.tools = tools
        self._tasks = BackgroundTasks()

    async def close(self) -> None:
        """Wait for clean-ups that are under way."""
        await self._tasks.finish()


def check_report(report: Report, request: LaunchRequest) -> None:
    """Raise `LaunchError` with the reason that the agent reports, unless the kernel is ready.

    The steps that the agent has measured become part of the start's.
    """
    if report.start is not None:
        request.steps.insert(report.start.steps)
    if report.status is not ReportStatus.READY:
        raise launch_failure(request, report.reason.describe())
    request.steps.begin(Step.CHECK)


def launch_failure(request: LaunchRequest, reason: str) -> LaunchError:
    """Return the error for a launch that failed, which names the kernel and the reason."""
    subject = f"Kernel {request.kernel_id} ({request.kernel_name}) did not start"
    return LaunchError(f"{subject}: {reason}".rstrip())


def launch_timeout(request: LaunchRequest, state: str) -> LaunchTimeoutError:
    """Return the error for a launch whose deadline passed; `state` describes its progress."""
    return LaunchTimeoutError(
        f"Kernel {request.kernel_id} ({request.kernel_name}) was not ready within "
        f"{request.timeout:g} s: {state} If it only needs longer, raise KERNEL_LAUNCH_TIMEOUT "
        "(or EG_KERNEL_LAUNCH_TIMEOUT for all kernels)."
    )
