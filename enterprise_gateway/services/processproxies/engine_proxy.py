"""The base class of the process proxies for containers and for Swarm services.

The kernelspec's launch script creates the workload; everything else goes through the Engine API.
Workloads are found by their labels, so any replica can take over the kernels of another.
"""

import asyncio
import contextlib
import logging
import sys
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping
from typing import ClassVar

from enterprise_gateway.errors import (
    ConfigurationError,
    ConflictError,
    GatewayError,
    LaunchError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.engine.client import EngineWorkloads
from enterprise_gateway.services.processproxies.engine.network import (
    KernelNetwork,
    check_network_name,
    check_not_of_gateways,
    parse_network,
    response_ip,
    source_towards,
)
from enterprise_gateway.services.processproxies.injection.injector import AgentInjector
from enterprise_gateway.services.processproxies.launch.attempt import LaunchAttempt
from enterprise_gateway.services.processproxies.launch.base import (
    LaunchTools,
    ReportingProcessProxy,
    launch_failure,
    launch_timeout,
)
from enterprise_gateway.services.processproxies.launch.environment import (
    DockerMode,
    launch_environment,
    network_name,
)
from enterprise_gateway.services.processproxies.launch.kernelspec import format_argv
from enterprise_gateway.services.processproxies.launch.labels import check_labels
from enterprise_gateway.services.processproxies.launch.progress import (
    LaunchProgress,
    has_failed,
    until_ready,
)
from enterprise_gateway.services.processproxies.launch.sidecar import (
    CreateSidecar,
    SidecarStart,
    SidecarStarter,
)
from enterprise_gateway.services.processproxies.responses.launcher_reports import LauncherReports
from enterprise_gateway.services.processproxies.responses.listener import ResponseEndpoint
from enterprise_gateway.services.processproxies.responses.report import Report
from enterprise_gateway.services.processproxies.sandbox.host_folders import HostFolders
from enterprise_gateway.services.processproxies.sandbox.networks import NetworkChoice
from enterprise_gateway.services.processproxies.sandbox.plan import host_policy, plan_sandbox
from enterprise_gateway.services.processproxies.scripts.runner import ScriptRun
from enterprise_gateway.services.processproxies.steps import Step, StepRecorder
from enterprise_gateway.services.processproxies.watch.base import EngineWatch
from enterprise_gateway.services.processproxies.watch.deferred_removals import DeferredRemovals
from enterprise_gateway.services.processproxies.workloads.sidecars import PairIndex
from enterprise_gateway.settings import LiveSettings

_CONNECT_SECONDS = 5.0
"""How long the first connection to an agent may take, also from a gateway with much to do."""
_LOG_LINE_BYTES = 80
"""A guess, by which a number of bytes is asked for as a number of lines."""

WorkloadList = list[Workload]
"""Under a name of its own, since `list` is a method here."""

_log = logging.getLogger(__name__)


class EngineProcessProxy(ReportingProcessProxy):
    """Launches kernels by a script that has a Docker engine create their workloads.

    Subclasses add what differs between containers and services.
    """

    mode: ClassVar[DockerMode]

    def __init__(
        self,
        settings: LiveSettings,
        tools: LaunchTools,
        *,
        workloads: EngineWorkloads,
        watch: EngineWatch,
        injector: AgentInjector,
        create_sidecar: CreateSidecar,
    ) -> None:
        """Store the collaborators; the engine is not contacted yet."""
        super().__init__(settings, tools)
        self._workloads = workloads
        self._watch = watch
        self._injector = injector
        self._sidecars = SidecarStarter(settings, workloads, create_sidecar)
        self._folders = HostFolders()
        self._watching: asyncio.Task[None] | None = None
        self._deferred_removals = DeferredRemovals(watch, settings)

    @abstractmethod
    async def _find(self, kernel_id: str | None = None) -> PairIndex:
        """Return the workloads of all kernels, or of one."""

    @abstractmethod
    def _begin_progress(
        self, steps: StepRecorder, predecessors: Collection[str], network: str
    ) -> LaunchProgress:
        """Return the observer of a launch in a network, without the kernel's former workloads."""

    @abstractmethod
    async def _kernel_network(self, name: str) -> KernelNetwork:
        """Return the network of that name, checked for kernels of this kind.

        Raises:
            ConfigurationError: kernels cannot be in it, or not on this engine at all.
        """

    async def start(self) -> None:
        """Begin to follow the engine, whether it answers yet or not."""
        self._watching = asyncio.create_task(self._watch.run())
        self._tasks.begin(self._preload())

    async def close(self) -> None:
        """Stop following the engine; kernels continue."""
        await self._deferred_removals.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await super().close()

    async def check(self) -> None:
        """See the base class."""
        await self.tools.engine.ping()

    async def launch(self, request: LaunchRequest) -> Workload:
        """See the base class."""
        settings = self.settings.current
        env = launch_environment(request, settings, self.mode)
        plan = plan_sandbox(request, settings, is_service=self.mode is DockerMode.SWARM)
        await self._folders.check(plan, host_policy(settings), settings.docker)
        deadline = asyncio.get_running_loop().time() + request.timeout
        reports = LauncherReports()
        # Within this context no other call in this replica launches or cleans up this kernel.
        with self.tools.responses.expect(request.kernel_id, request.tokens, reports) as report:
            predecessors = await self._remove_previous(request, deadline)
            endpoint = await self._response_endpoint(env, plan.network)
            with (
                contextlib.closing(
                    self._begin_progress(request.steps, predecessors, network_name(env))
                ) as progress,
                self._sidecars.watching(request, env, endpoint, progress, reports) as sidecar,
            ):
                attempt = LaunchAttempt(request, endpoint, progress, reports, sidecar)
                try:
                    async with asyncio.timeout_at(deadline):
                        workload = await self._run(attempt, env, report)
                except TimeoutError as exc:
                    state = await asyncio.shield(self._tasks.begin(self._give_up(attempt)))
                    raise launch_timeout(request, state) from exc
                except BaseException as exc:
                    await asyncio.shield(self._tasks.begin(self._clean_up_failed(attempt)))
                    if isinstance(exc, LaunchError):
                        await self._check_engine(request, attempt.script, exc)
                    raise
        _log.info("Kernel %s runs as %s", request.kernel_id, workload.name)
        return workload

    async def observe(self, kernel_id: str) -> Workload | None:
        """See the base class."""
        return max(
            await self._list(kernel_id),
            key=lambda workload: (workload.state is not WorkloadState.DEAD, workload.created),
            default=None,
        )

    async def list(self) -> list[Workload]:
        """See the base class."""
        return await self._list()

    async def launched_with(self, workload: Workload) -> Mapping[str, str]:
        """See the base class."""
        try:
            return await self._workloads.environment(workload.name)
        except NotFoundError:
            return {}

    async def watch(self) -> AsyncIterator[Workload]:
        """See the base class."""
        with self._watch.feed.follow() as changes:
            for workload in tuple(self._watch.known.values()):
                yield workload
            async for workload in changes:
                yield workload

    async def read_log(self, kernel_id: str, max_bytes: int) -> str:
        """See the base class."""
        members = (await self._find(kernel_id)).members
        if not members:
            return ""
        # A sidecar's output is about the kernel only if nothing else is left of the kernel.
        newest = max(
            members.values(), key=lambda member: (not member.sidecar_of, member.workload.created)
        )
        lines = max(1, max_bytes // _LOG_LINE_BYTES)
        tail = (await self._workloads.log_tail(newest.engine_id, lines)).encode()[-max_bytes:]
        return tail.decode(errors="replace")

    async def remove(self, kernel_id: str) -> None:
        """See the base class."""
        for engine_id in (await self._find(kernel_id)).members:
            await self._workloads.remove(engine_id)

    async def remove_workload(self, workload: Workload) -> None:
        """See the base class."""
        for pair in await self._find(workload.kernel_id):
            if not pair.workload.succeeds(workload):
                for member in pair.members:
                    await self._workloads.remove(member.engine_id)

    async def _list(self, kernel_id: str | None = None) -> WorkloadList:
        return [pair.workload for pair in await self._find(kernel_id)]

    async def _preload(self) -> None:
        """Start the launch server ahead of the first kernel, if there is an engine at all."""
        with contextlib.suppress(GatewayError):
            await self.tools.engine.ping()
            self.tools.scripts.start()

    async def _remove_previous(self, request: LaunchRequest, deadline: float) -> Collection[str]:
        """Wait for the clean-up of an earlier launch, and remove the kernel's dead workloads.

        Returns:
            The engine's ids of the kernel's former containers or services, without those of
            sidecars. News of their end may still come.

        Raises:
            ConflictError: the kernel runs.
            LaunchTimeoutError: the earlier launch is not cleaned up by the deadline.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._deferred_removals.wait(request.kernel_id)
                present = await self._find(request.kernel_id)
                if any(pair.workload.state is not WorkloadState.DEAD for pair in present):
                    raise _exists(request.kernel_id)
                for engine_id in present.members:
                    await self._workloads.remove(engine_id)
        except TimeoutError as exc:
            state = "an earlier launch of the same id is still being cleaned up."
            raise launch_timeout(request, state) from exc
        pairs = {member.pair for member in present.members.values()} | self._watch.known.keys()
        return {key.kernel_container_id for key in pairs if key.kernel_id == request.kernel_id}

    async def _run(
        self, attempt: LaunchAttempt, env: Mapping[str, str], report: asyncio.Future[Report]
    ) -> Workload:
        """Run the launch script and return the workload once its kernel is ready."""
        request, progress = attempt.request, attempt.progress
        templates = _templates(request, attempt.endpoint, env["PORT_RANGE"])
        with self._watch.subscribe(request.kernel_id, progress.on_observation):
            injected = await self._injector.inject(request, env)
            request.steps.begin(Step.CREATE)
            attempt.script = await self.tools.scripts.run(
                format_argv(request.argv, templates),
                {**env, **injected},
                request.resource_dir or "/",
            )
            await until_ready(request, report, attempt.script, progress)
            await attempt.sidecar.finish()
            return await self._reachable(request, progress, attempt.sidecar)

    async def _response_endpoint(
        self, env: Mapping[str, str], choice: NetworkChoice
    ) -> ResponseEndpoint:
        name = network_name(env)
        check_network_name(name)
        network = await self._kernel_network(name)
        settings = self.settings.current
        if settings.docker.network not in (name, network.name):
            check_not_of_gateways(network, settings.server.trusted_proxies)
        if choice.must_be_internal and not network.is_internal:
            raise ConfigurationError(
                f"The Docker network '{name}' (internal_network, EG_INTERNAL_NETWORK) has a way "
                "out. Make one with docker network create --internal, and name that."
            )
        ip = response_ip(network, settings.response, source_towards)
        return await self.tools.responses.open(ip)

    async def _inspect_network(self, name: str, options: str = "") -> KernelNetwork:
        """Return a network of the engine.

        Args:
            name: the network's.
            options: of `docker network create` for such a network, for the error message.

        Raises:
            ConfigurationError: there is none of that name.
        """
        try:
            return parse_network(await self.tools.engine.network(name))
        except NotFoundError as exc:
            raise ConfigurationError(
                f"There is no Docker network '{name}' on this engine. Make it with: docker network "
                f"create {options}{name} (or set EG_DOCKER_NETWORK to one that exists)."
            ) from exc

    async def _reachable(
        self, request: LaunchRequest, progress: LaunchProgress, sidecar: SidecarStart
    ) -> Workload:
        """Return the workload once its agent has accepted a connection from here."""
        while True:
            progress.moved.clear()
            workload = progress.running(has_sidecar=sidecar.is_requested)
            workload = workload or await self.observe(request.kernel_id)
            if workload is None or workload.state is not WorkloadState.STARTING:
                break
            # A node may tell its manager that the container runs after the kernel has reported.
            await progress.moved.wait()
        endpoint = workload.endpoint if workload is not None else None
        if workload is None or endpoint is None:
            raise launch_failure(
                request, "it reported, but its container is gone or has no address."
            )
        check_labels(request, workload)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        except (OSError, TimeoutError) as exc:
            raise LaunchError(_unreachable(request, endpoint)) from exc
        writer.close()
        return workload

    async def _give_up(self, attempt: LaunchAttempt) -> str:
        """Clean up after a launch that takes too long; return how far it had come."""
        state = await attempt.describe()
        await self._clean_up_failed(attempt)
        return state

    async def _clean_up_failed(self, attempt: LaunchAttempt) -> None:
        """Remove what a failed launch created, for as long as more may appear."""
        kernel_id, public_key = attempt.request.kernel_id, attempt.endpoint.public_key
        # Nothing may be created any more once removing begins.
        may_appear = await attempt.stop()
        try:
            await self._remove_own(kernel_id, public_key)
        except GatewayError as exc:
            _log.warning("Cleaning up after kernel %s failed: %s Trying again.", kernel_id, exc)
            may_appear = True
        if may_appear:
            self._deferred_removals.schedule(
                kernel_id, lambda: self._remove_own(kernel_id, public_key)
            )

    async def _check_engine(
        self, request: LaunchRequest, script: ScriptRun | None, error: LaunchError
    ) -> None:
        """Look for a clearer reason of a failed launch, whose own workload has been removed.

        Raises:
            ConflictError: another replica has launched the kernel.
            UnavailableError: the engine has gone away in the middle of the launch.
        """
        try:
            found = await self._list(request.kernel_id)
        except UnavailableError as exc:
            if not has_failed(script):
                return  # the known reason is as good
            raise UnavailableError(str(launch_failure(request, str(exc)))) from error
        if any(workload.state is not WorkloadState.DEAD for workload in found):
            raise _exists(request.kernel_id) from error

    async def _remove_own(self, kernel_id: str, public_key: str) -> None:
        """Remove a kernel's workloads, except those that report to another replica.

        A client may ask two replicas for a kernel of the same id: one launches it, and the other
        fails because the name is taken.
        """
        for engine_id in (await self._find(kernel_id)).members:
            with contextlib.suppress(NotFoundError):
                env = await self._workloads.environment(engine_id)
                keys = {value for name, value in env.items() if name.endswith("PUBLIC_KEY")}
                if keys <= {"", public_key}:
                    await self._workloads.remove(engine_id)


def _templates(
    request: LaunchRequest, endpoint: ResponseEndpoint, port_range: str
) -> dict[str, str]:
    return {
        # Made in the container; a launch script that is given the name can pass it on.
        "connection_file": f"kernel-{request.kernel_id}.json",
        "kernel_id": request.kernel_id,
        "port_range": port_range,
        "prefix": sys.prefix,
        "public_key": endpoint.public_key,
        "resource_dir": request.resource_dir,
        "response_address": endpoint.address,
    }


def _exists(kernel_id: str) -> ConflictError:
    return ConflictError(f"Kernel {kernel_id} exists already.")


def _unreachable(request: LaunchRequest, endpoint: AgentEndpoint) -> str:
    return (
        f"Kernel {request.kernel_id} ({request.kernel_name}) runs in its container, but this "
        f"gateway cannot reach {endpoint.host}:{endpoint.port}. Run the gateway in a container of "
        "the kernels' network or, if that is a bridge, on the engine's own host."
    )
