"""What containers and services have in common: everything but what the engine calls them.

The kernelspec's launch script makes the workload; everything else goes through the Engine API.
Workloads are found by their labels, so any gateway of the cluster can go on with the kernels of
another.
"""

import asyncio
import contextlib
import functools
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
)
from enterprise_gateway.services.processproxies.agent_loan import AgentLender
from enterprise_gateway.services.processproxies.argv import format_argv
from enterprise_gateway.services.processproxies.companion import plan_companion
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.couples import Couples
from enterprise_gateway.services.processproxies.docker_environment import (
    DockerMode,
    launch_environment,
)
from enterprise_gateway.services.processproxies.docker_network import (
    KernelNetwork,
    check_network_name,
    parse_network,
    response_ip,
    source_towards,
)
from enterprise_gateway.services.processproxies.engine_launch import (
    LaunchProgress,
    until_launcher_reports,
    until_ready,
)
from enterprise_gateway.services.processproxies.engine_removal import LateRemovals
from enterprise_gateway.services.processproxies.engine_watch import EngineWatch
from enterprise_gateway.services.processproxies.engine_workloads import EngineWorkloads
from enterprise_gateway.services.processproxies.launcher_reports import LauncherReports
from enterprise_gateway.services.processproxies.reporting import (
    LaunchTools,
    ReportingProcessProxy,
    launch_timeout,
)
from enterprise_gateway.services.processproxies.responses import ResponseEndpoint
from enterprise_gateway.services.processproxies.scripts import ScriptRun
from enterprise_gateway.settings import LiveSettings

_REACH_DEADLINE = 2.0
_LOG_LINE_BYTES = 80

WorkloadList = list[Workload]
"""Under a name of its own, since `list` is a method here."""

_log = logging.getLogger(__name__)


class EngineProcessProxy(ReportingProcessProxy):
    """Launches kernels by a script that asks a Docker engine for them.

    A kind of workload adds what the engine knows about it, by the engine's id for each.
    """

    mode: ClassVar[DockerMode]

    def __init__(
        self,
        settings: LiveSettings,
        tools: LaunchTools,
        workloads: EngineWorkloads,
        watch: EngineWatch,
        lender: AgentLender,
    ) -> None:
        """Store what is given; nothing is contacted yet."""
        super().__init__(settings, tools)
        self._workloads = workloads
        self._watch = watch
        self._lender = lender
        self._watching: asyncio.Task[None] | None = None
        self._late_removals = LateRemovals(watch)

    @abstractmethod
    async def _find(self, kernel_id: str | None = None) -> Couples:
        """Return what there is of all kernels, or of one."""

    @abstractmethod
    def _begin_progress(self, predecessors: Collection[str]) -> LaunchProgress:
        """Return the observer of a launch, which takes no notice of the kernel's old workloads."""

    @abstractmethod
    async def _kernel_network(self, name: str) -> KernelNetwork:
        """Return the network that kernels of this kind are to be in.

        Raises:
            ConfigurationError: they cannot be, or not on this engine at all.
        """

    async def start(self) -> None:
        """Begin to follow the engine, whether it answers yet or not."""
        self._watching = asyncio.create_task(self._watch.run())
        self._begin(self._preload())

    async def close(self) -> None:
        """Stop following; the kernels go on."""
        await self._late_removals.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await super().close()

    async def check(self) -> None:
        """See the base class."""
        await self.tools.engine.ping()

    async def launch(self, request: LaunchRequest) -> Workload:
        """See the base class."""
        env = launch_environment(request, self.settings.current, self.mode)
        deadline = asyncio.get_running_loop().time() + request.timeout
        script: ScriptRun | None = None
        launcher_reports = LauncherReports()
        # From here on nobody else in this gateway launches, or cleans up after, this kernel.
        with self.tools.responses.expect(
            request.kernel_id, request.agent_token, launcher_reports
        ) as report:
            try:
                async with asyncio.timeout_at(deadline):
                    predecessors = await self._make_way(request.kernel_id)
            except TimeoutError as exc:
                state = "an earlier launch of the same id is still being cleaned up."
                raise launch_timeout(request, state) from exc
            endpoint = await self._response_endpoint(env)
            argv = format_argv(request.argv, _templates(request, endpoint, env["PORT_RANGE"]))
            progress = self._begin_progress(predecessors)
            accompanying = self._begin(
                self._accompany(request, env, endpoint, launcher_reports, progress)
            )
            try:
                with self._watch.observe(request.kernel_id, progress.observe):
                    async with asyncio.timeout_at(deadline):
                        env |= await self._lender.lend(request, env)
                        cwd = request.resource_dir or "/"
                        script = await self.tools.scripts.run(argv, env, cwd)
                        await until_ready(request, report, script, progress, accompanying)
                        if progress.is_accompanied:
                            await accompanying
                        accompanying.cancel()
                        workload = await self._reachable(request, progress)
            except BaseException as exc:
                state = progress.describe(script, endpoint.address, launcher_reports.senders)
                discarding = self._discard(
                    request.kernel_id, endpoint.public_key, script, accompanying, progress
                )
                await asyncio.shield(self._begin(discarding))
                if isinstance(exc, TimeoutError):
                    raise launch_timeout(request, state) from exc
                if isinstance(exc, LaunchError) and await self._is_taken(request.kernel_id):
                    raise _exists(request.kernel_id) from exc
                raise
            finally:
                accompanying.cancel()
                progress.close()
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
        parts = (await self._find(kernel_id)).parts
        if not parts:
            return ""
        # What a companion prints is about the kernel only if nothing else is left of it.
        newest = max(
            parts.values(), key=lambda part: (not part.companion_of, part.workload.created)
        )
        lines = max(1, max_bytes // _LOG_LINE_BYTES)
        tail = (await self._workloads.log_tail(newest.engine_id, lines)).encode()[-max_bytes:]
        return tail.decode(errors="replace")

    async def remove(self, kernel_id: str) -> None:
        """See the base class."""
        for engine_id in (await self._find(kernel_id)).parts:
            await self._workloads.remove(engine_id)

    async def sweep(self, workload: Workload) -> None:
        """See the base class."""
        for couple in await self._find(workload.kernel_id):
            if not couple.workload.succeeds(workload):
                for part in couple.parts:
                    await self._workloads.remove(part.engine_id)

    async def _list(self, kernel_id: str | None = None) -> WorkloadList:
        return [couple.workload for couple in await self._find(kernel_id)]

    async def _preload(self) -> None:
        """Have the launch server ready before the first kernel, where there is an engine at all."""
        with contextlib.suppress(GatewayError):
            await self.tools.engine.ping()
            self.tools.scripts.start()

    async def _make_way(self, kernel_id: str) -> Collection[str]:
        """Wait for an earlier launch of the kernel to be cleaned up, and remove what is dead of it.

        Returns:
            The engine's ids of what was removed, but for companions.

        Raises:
            ConflictError: the kernel runs.
        """
        await self._late_removals.wait(kernel_id)
        present = await self._find(kernel_id)
        if any(couple.workload.state is not WorkloadState.DEAD for couple in present):
            raise _exists(kernel_id)
        for engine_id in present.parts:
            await self._workloads.remove(engine_id)
        return {part.subject for part in present.parts.values()}

    async def _accompany(
        self,
        request: LaunchRequest,
        env: Mapping[str, str],
        endpoint: ResponseEndpoint,
        reports: LauncherReports,
        progress: LaunchProgress,
    ) -> None:
        """Give the kernel a companion once a launcher that is no agent reports from its container.

        Never ends if none does.

        Raises:
            LaunchError, UnavailableError: the engine makes no companion.
        """
        kernel, attachment = await until_launcher_reports(reports, progress)
        try:
            labels = await self._workloads.labels(kernel.engine_id)
        except NotFoundError:
            return  # it has died; others will say so
        companion = plan_companion(
            request,
            env,
            kernel,
            labels,
            attachment,
            endpoint,
            image=self.settings.current.docker.companion_image,
            network=_network_name(env),
        )
        _log.info("Kernel %s gets the companion %s", request.kernel_id, companion.name)
        progress.is_accompanied = True
        await self._workloads.create_companion(companion)

    async def _response_endpoint(self, env: Mapping[str, str]) -> ResponseEndpoint:
        name = _network_name(env)
        check_network_name(name)
        network = await self._kernel_network(name)
        ip = response_ip(network, self.settings.current.response, source_towards)
        return await self.tools.responses.open(ip)

    async def _inspect_network(self, name: str, options: str = "") -> KernelNetwork:
        """Return a network of the engine; `options` are those that it would have to be made with.

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

    async def _reachable(self, request: LaunchRequest, progress: LaunchProgress) -> Workload:
        """Return the workload, whose agent takes connections from here."""
        while True:
            progress.moved.clear()
            workload = progress.running() or await self.observe(request.kernel_id)
            if workload is None or workload.state is not WorkloadState.STARTING:
                break
            # A manager hears from the node that the container runs, maybe after we hear of it.
            await progress.moved.wait()
        endpoint = workload.endpoint if workload is not None else None
        if workload is None or endpoint is None:
            raise LaunchError(
                f"Kernel {request.kernel_id} ({request.kernel_name}) did not start: it reported, "
                "but its container is gone or has no address."
            )
        try:
            async with asyncio.timeout(_REACH_DEADLINE):
                _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        except (OSError, TimeoutError) as exc:
            raise LaunchError(_unreachable(request, endpoint)) from exc
        writer.close()
        return workload

    async def _discard(
        self,
        kernel_id: str,
        public_key: str,
        script: ScriptRun | None,
        accompanying: asyncio.Task[None],
        progress: LaunchProgress,
    ) -> None:
        """Leave nothing of a launch that failed, wherever it failed."""
        remove = functools.partial(self._remove_own, kernel_id, public_key)
        # Nothing may be made any more once removing begins.
        accompanying.cancel()
        await asyncio.gather(accompanying, return_exceptions=True)
        in_flight = progress.is_accompanied and accompanying.cancelled()
        if script is not None:
            await script.kill()
            in_flight = in_flight or script.result.result().was_cut_short
        try:
            await remove()
        except GatewayError as exc:
            _log.warning("Cleaning up after kernel %s: %s Trying again.", kernel_id, exc)
            in_flight = True
        if in_flight:
            self._late_removals.begin(kernel_id, remove)

    async def _is_taken(self, kernel_id: str) -> bool:
        """Say whether another gateway process was faster; our own workload has been removed."""
        with contextlib.suppress(GatewayError):
            found = await self._list(kernel_id)
            return any(workload.state is not WorkloadState.DEAD for workload in found)
        return False

    async def _remove_own(self, kernel_id: str, public_key: str) -> None:
        """Remove a kernel's workloads, but for those that report to another gateway process.

        A client may have asked two of them for a kernel of the same id: one launches it, the other
        fails since the name is taken.
        """
        for engine_id in (await self._find(kernel_id)).parts:
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


def _network_name(env: Mapping[str, str]) -> str:
    """Return the network that a launch script is told to put the kernel into."""
    return env.get("DOCKER_NETWORK") or env["EG_DOCKER_NETWORK"]


def _exists(kernel_id: str) -> ConflictError:
    return ConflictError(f"Kernel {kernel_id} exists already.")


def _unreachable(request: LaunchRequest, endpoint: AgentEndpoint) -> str:
    return (
        f"Kernel {request.kernel_id} ({request.kernel_name}) runs in its container, but this "
        f"gateway cannot reach {endpoint.host}:{endpoint.port}. Run the gateway in a container of "
        "the kernels' network or, if that is a bridge, on the engine's own host."
    )
