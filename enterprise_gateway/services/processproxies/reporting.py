"""What the built-in process proxies share: the means of a launch, and the wait for its end."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from enterprise_gateway.errors import LaunchError, LaunchTimeoutError
from enterprise_gateway.services.processproxies.agent_bundle import BundleMaker
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC, LaunchRequest
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine
from enterprise_gateway.services.processproxies.reports import Report, ReportStatus
from enterprise_gateway.services.processproxies.responses import ResponseListener
from enterprise_gateway.services.processproxies.scripts import ScriptRunner
from enterprise_gateway.settings import LiveSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LaunchTools:
    """What all process proxies of a gateway use together."""

    responses: ResponseListener
    scripts: ScriptRunner
    engine: DockerEngine
    bundles: BundleMaker


class ReportingProcessProxy(BaseProcessProxyABC):
    """A process proxy whose kernels report to the response listener.

    Bring-your-own classes may derive from it as well as from `BaseProcessProxyABC`.
    """

    def __init__(self, settings: LiveSettings, tools: LaunchTools) -> None:
        """Store the settings and tools; nothing is contacted yet."""
        super().__init__(settings)
        self.tools = tools
        self._duties: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Finish the cleaning up that is under way."""
        await asyncio.gather(*self._duties, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something that must come to its end even if whoever wants it is cancelled."""
        task = asyncio.get_running_loop().create_task(work)
        self._duties.add(task)
        task.add_done_callback(self._duties.discard)
        return task


def check_report(report: Report, request: LaunchRequest) -> None:
    """Raise `LaunchError` with the agent's words unless the kernel is ready."""
    if report.status is not ReportStatus.READY:
        raise LaunchError(
            f"Kernel {request.kernel_id} ({request.kernel_name}) did not start: "
            f"{report.reason.describe()}"
        )


def launch_timeout(request: LaunchRequest, state: str) -> LaunchTimeoutError:
    """Return the error for a launch whose deadline passed; `state` says how far it had come."""
    return LaunchTimeoutError(
        f"Kernel {request.kernel_id} ({request.kernel_name}) was not ready within "
        f"{request.timeout:g} s: {state} If it only needs longer, raise KERNEL_LAUNCH_TIMEOUT "
        "(or EG_KERNEL_LAUNCH_TIMEOUT for all kernels)."
    )
