"""Sidecars: the agent of a kernel whose own container has none, in a container beside it.

A kernel in one of Enterprise Gateway's images reports by that project's launcher, which is no
agent. The gateway then has the engine create a sidecar, whose agent attaches to the kernel and
reports that it is ready.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from enterprise_gateway._version import __version__
from enterprise_gateway.errors import LaunchError, NotFoundError
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.engine.client import EngineWorkloads
from enterprise_gateway.services.processproxies.launch.base import launch_failure
from enterprise_gateway.services.processproxies.launch.environment import (
    AGENT_CERTIFICATE,
    network_name,
)
from enterprise_gateway.services.processproxies.launch.progress import LaunchProgress
from enterprise_gateway.services.processproxies.responses.launcher_reports import LauncherReports
from enterprise_gateway.services.processproxies.responses.listener import ResponseEndpoint
from enterprise_gateway.services.processproxies.sandbox.security import SIZED_LOG_DRIVERS
from enterprise_gateway.services.processproxies.steps import Step
from enterprise_gateway.services.processproxies.workloads.containers import (
    CLUSTER_LABEL,
    KERNEL_LABELS,
    LAUNCH_LABEL,
)
from enterprise_gateway.services.processproxies.workloads.names import sidecar_name
from enterprise_gateway.services.processproxies.workloads.sidecar_specs import Sidecar
from enterprise_gateway.services.processproxies.workloads.sidecars import (
    SIDECAR_LABEL,
    Observation,
)
from enterprise_gateway.settings import LiveSettings, SandboxSettings, Settings

DEFAULT_SIDECAR_IMAGE = f"localhost/enterprise-gateway/enterprise-gateway:{__version__}"
_PASSED_ON = ("EG_AGENT_SETTINGS", "KERNEL_ID", "KERNEL_LAUNCH_TIMEOUT")

_log = logging.getLogger(__name__)

CreateSidecar = Callable[[Sidecar], Awaitable[None]]
"""Has the engine create and start a sidecar.

Raises `LaunchError` if the engine refuses, with its words, and `UnavailableError`.
"""


class SidecarStarter:
    """Gives the kernels of one process proxy their sidecars."""

    def __init__(
        self, settings: LiveSettings, workloads: EngineWorkloads, create: CreateSidecar
    ) -> None:
        """Store the collaborators.

        Args:
            settings: the image of sidecars.
            workloads: for the labels of the kernels' containers or services.
            create: the call that suits this kind of workload.
        """
        self._settings = settings
        self._workloads = workloads
        self._create = create

    @contextmanager
    def watching(
        self,
        request: LaunchRequest,
        env: Mapping[str, str],
        endpoint: ResponseEndpoint,
        progress: LaunchProgress,
        reports: LauncherReports,
    ) -> Iterator["SidecarStart"]:
        """Start a sidecar if a launcher reports from the kernel's container in this context.

        A failure ends the launch by `progress.fail`. Leaving the context cancels the start but does
        not wait for its end: `SidecarStart.finish` and `SidecarStart.stop` do.

        Args:
            request: the kernel's launch.
            env: the environment of its launch script.
            endpoint: where the sidecar is to report.
            progress: the observer of the launch.
            reports: what launchers send for this kernel.
        """
        plan = functools.partial(
            plan_sidecar,
            request,
            env,
            endpoint=endpoint,
            settings=self._settings.current,
            network=network_name(env),
        )
        start = SidecarStart(request, self._workloads, self._create, progress, reports, plan)
        try:
            yield start
        finally:
            start.cancel()


class SidecarStart:
    """The start of one kernel's sidecar, which most kernels do not need."""

    def __init__(
        self,
        request: LaunchRequest,
        workloads: EngineWorkloads,
        create: CreateSidecar,
        progress: LaunchProgress,
        reports: LauncherReports,
        plan: Callable[[Observation, Mapping[str, str], str], Sidecar],
    ) -> None:
        """Begin to wait for a launcher's report; see `SidecarStarter.watching`."""
        self.is_requested = False
        """Whether the engine was asked for a sidecar."""
        self._request = request
        self._workloads = workloads
        self._create = create
        self._progress = progress
        self._reports = reports
        self._plan = plan
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._pass_failure_on)

    async def finish(self) -> None:
        """Wait until a requested sidecar is created; stop waiting for a launcher if none is.

        Called once the kernel is ready, which may be before the engine has answered.
        """
        if self.is_requested:
            await self._task
        self.cancel()

    async def stop(self) -> bool:
        """Stop, and return whether the engine may still create the sidecar."""
        self.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return self.is_requested and self._task.cancelled()

    def cancel(self) -> None:
        """Stop without waiting; harmless once it is over."""
        self._task.cancel()

    async def _run(self) -> None:
        kernel, attachment = await self._until_launcher_reports()
        self._request.steps.begin(Step.SIDECAR)
        try:
            labels = await self._workloads.labels(kernel.engine_id)
        except NotFoundError:
            return  # the kernel has died, which ends the launch by other means
        sidecar = self._plan(kernel, labels, attachment)
        _log.info("Kernel %s gets the sidecar %s", self._request.kernel_id, sidecar.name)
        self.is_requested = True
        try:
            await self._create(sidecar)
        except LaunchError as exc:
            raise launch_failure(self._request, str(exc)) from exc

    async def _until_launcher_reports(self) -> tuple[Observation, str]:
        """Wait for a report from the address that the engine gave the kernel's container.

        Reports are not authenticated, so one from any other address is ignored.

        Returns:
            The kernel, and `EG_AGENT_ATTACH` for its sidecar.
        """
        while True:
            self._reports.arrived.clear()
            self._progress.moved.clear()
            kernel = self._progress.latest
            address = kernel.workload.endpoint if kernel is not None else None
            info = await self._reports.read(address.host) if address is not None else None
            if kernel is not None and address is not None and info is not None:
                return kernel, info.attachment(address.host)
            changes = [
                asyncio.ensure_future(event.wait())
                for event in (self._reports.arrived, self._progress.moved)
            ]
            try:
                await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for change in changes:
                    change.cancel()

    def _pass_failure_on(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._progress.fail(error)


def plan_sidecar(
    request: LaunchRequest,
    script_env: Mapping[str, str],
    kernel: Observation,
    kernel_labels: Mapping[str, str],
    attachment: str,
    endpoint: ResponseEndpoint,
    *,
    settings: Settings,
    network: str,
) -> Sidecar:
    """Return the sidecar of a kernel. Pure.

    Args:
        request: the kernel's launch.
        script_env: the environment of its launch script.
        kernel: its container or service.
        kernel_labels: the labels that its launch script gave the kernel.
        attachment: `EG_AGENT_ATTACH` of the wire contract.
        endpoint: where the sidecar reports.
        settings: an image with the agent, and where the output of containers goes.
        network: name of the kernels' network.
    """
    own = {label.partition("=")[0] for label in KERNEL_LABELS} | {"kernel_id", CLUSTER_LABEL}
    return Sidecar(
        name=sidecar_name(kernel.workload.name, request.kernel_id),
        image=settings.docker.sidecar_image or DEFAULT_SIDECAR_IMAGE,
        network=network,
        labels={
            **{name: value for name, value in kernel_labels.items() if name in own},
            SIDECAR_LABEL: kernel.engine_id,
        },
        environment={
            **{name: script_env[name] for name in _PASSED_ON},
            "EG_AGENT_TOKEN": request.launch_token
            if kernel_labels.get(LAUNCH_LABEL)
            else request.agent_token,
            "EG_AGENT_ATTACH": attachment,
            **({AGENT_CERTIFICATE: request.agent_certificate} if request.agent_certificate else {}),
            "KERNEL_USERNAME": request.username,
            "PUBLIC_KEY": endpoint.public_key,
            "RESPONSE_ADDRESS": endpoint.address,
        },
        log_driver=settings.sandbox.container_log_driver,
        log_options=_log_options(settings.sandbox),
    )


def _log_options(sandbox: SandboxSettings) -> dict[str, str]:
    if sandbox.container_log_driver not in SIZED_LOG_DRIVERS:
        return {}
    return {
        "max-size": sandbox.container_log_max_size,
        "max-file": str(sandbox.container_log_max_files),
    }
