"""Kernels in Docker containers.

The module's name is the documented one. The kernelspec's launch script makes the container;
everything else goes through the Engine API. Containers are found by their labels, so any gateway on
the same engine can go on with the kernels of another.
"""

import asyncio
import contextlib
import functools
import logging
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from enterprise_gateway.errors import (
    ConfigurationError,
    ConflictError,
    GatewayError,
    LaunchError,
    NotFoundError,
)
from enterprise_gateway.services.processproxies.argv import format_argv
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine
from enterprise_gateway.services.processproxies.docker_environment import launch_environment
from enterprise_gateway.services.processproxies.docker_launch import ContainerLaunch
from enterprise_gateway.services.processproxies.docker_network import (
    check_network_name,
    parse_network,
    response_ip,
    source_towards,
)
from enterprise_gateway.services.processproxies.docker_removal import LateRemovals
from enterprise_gateway.services.processproxies.docker_watch import DockerWatch
from enterprise_gateway.services.processproxies.docker_workloads import workload_of_container
from enterprise_gateway.services.processproxies.reporting import (
    LaunchTools,
    ReportingProcessProxy,
    check_report,
    launch_timeout,
)
from enterprise_gateway.services.processproxies.reports import Report
from enterprise_gateway.services.processproxies.responses import ResponseEndpoint
from enterprise_gateway.services.processproxies.scripts import ScriptRun
from enterprise_gateway.settings import LiveSettings

_SCRIPT_DEADLINE = 0.5
"""Seconds that the launch script of a container which died is given to say why in better words."""
_REACH_DEADLINE = 2.0
_LOG_LINE_BYTES = 80

_log = logging.getLogger(__name__)


class DockerProcessProxy(ReportingProcessProxy):
    """Launches kernels as containers of the engine that the settings name."""

    def __init__(self, settings: LiveSettings, tools: LaunchTools) -> None:
        super().__init__(settings, tools)
        self._engine = DockerEngine(settings.current.docker, settings.current.cluster_id)
        self._watch = DockerWatch(self._engine, lambda: settings.current.docker.network)
        self._watching: asyncio.Task[None] | None = None
        self._late_removals = LateRemovals(self._watch)

    async def start(self) -> None:
        """Begin to follow the engine, whether it answers yet or not."""
        self._engine.open()
        self._watching = asyncio.create_task(self._watch.run())
        self._begin(self._preload())

    async def close(self) -> None:
        """Stop following; the containers go on."""
        await self._late_removals.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await super().close()
        await self._engine.close()

    async def check(self) -> None:
        """See the base class."""
        await self._engine.ping()

    async def launch(self, request: LaunchRequest) -> Workload:
        """See the base class."""
        env = launch_environment(request, self.settings.current, "docker")
        deadline = asyncio.get_running_loop().time() + request.timeout
        progress = ContainerLaunch(self._engine)
        script: ScriptRun | None = None
        # From here on nobody else in this gateway launches, or cleans up after, this kernel.
        with self.tools.responses.expect(request.kernel_id, request.agent_token) as report:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._make_way(request.kernel_id)
            except TimeoutError as exc:
                state = "an earlier launch of the same id is still being cleaned up."
                raise launch_timeout(request, state) from exc
            endpoint = await self._response_endpoint(env)
            argv = format_argv(request.argv, _templates(request, endpoint, env["PORT_RANGE"]))
            try:
                with self._watch.observe(request.kernel_id, progress.observe):
                    async with asyncio.timeout_at(deadline):
                        cwd = request.resource_dir or "/"
                        script = await self.tools.scripts.run(argv, env, cwd)
                        await self._until_ready(request, report, script, progress)
                        workload = await self._reachable(request)
            except BaseException as exc:
                state = _describe(progress, script, endpoint)
                discarding = self._discard(request.kernel_id, script, endpoint.public_key)
                await asyncio.shield(self._begin(discarding))
                if isinstance(exc, TimeoutError):
                    raise launch_timeout(request, state) from exc
                raise
            finally:
                progress.close()
        _log.info("Kernel %s runs in container %s", request.kernel_id, workload.name)
        return workload

    async def observe(self, kernel_id: str) -> Workload | None:
        """See the base class."""
        network = self.settings.current.docker.network
        found = [
            workload
            for container in await self._engine.containers(kernel_id)
            if (workload := workload_of_container(container, network)) is not None
        ]
        found.sort(
            key=lambda workload: (workload.state is not WorkloadState.DEAD, workload.created)
        )
        return found[-1] if found else None

    async def list(self) -> list[Workload]:
        """See the base class."""
        network = self.settings.current.docker.network
        containers = await self._engine.containers()
        workloads = (workload_of_container(container, network) for container in containers)
        return [workload for workload in workloads if workload is not None]

    async def created(self, workload: Workload) -> float:
        """See the base class."""
        try:
            inspected = await self._engine.container(workload.name)
        except NotFoundError:
            return workload.created
        return datetime.fromisoformat(inspected["Created"]).timestamp()

    async def watch(self) -> AsyncIterator[Workload]:
        """See the base class."""
        with self._watch.feed.follow() as changes:
            for workload in tuple(self._watch.known.values()):
                yield workload
            async for workload in changes:
                yield workload

    async def read_log(self, kernel_id: str, max_bytes: int) -> str:
        """See the base class."""
        containers = await self._engine.containers(kernel_id)
        if not containers:
            return ""
        newest = max(containers, key=lambda container: float(container["Created"]))
        lines = max(1, max_bytes // _LOG_LINE_BYTES)
        tail = (await self._engine.log_tail(newest["Id"], lines)).encode()[-max_bytes:]
        return tail.decode(errors="replace")

    async def remove(self, kernel_id: str) -> None:
        """See the base class."""
        for container in await self._engine.containers(kernel_id):
            await self._engine.remove(container["Id"])

    async def _preload(self) -> None:
        """Have the launch server ready before the first kernel, where there is an engine at all."""
        with contextlib.suppress(GatewayError):
            await self._engine.ping()
            self.tools.scripts.start()

    async def _make_way(self, kernel_id: str) -> None:
        """Wait for an earlier launch of the kernel to be cleaned up, and remove what is dead of it.

        Raises:
            ConflictError: the kernel runs.
        """
        await self._late_removals.wait(kernel_id)
        present = await self._engine.containers(kernel_id)
        for container in present:
            workload = workload_of_container(container, "")
            if workload is not None and workload.state is not WorkloadState.DEAD:
                raise ConflictError(f"Kernel {kernel_id} exists already.")
        for container in present:
            await self._engine.remove(container["Id"])

    async def _response_endpoint(self, env: Mapping[str, str]) -> ResponseEndpoint:
        name = env.get("DOCKER_NETWORK") or env["EG_DOCKER_NETWORK"]
        check_network_name(name)
        try:
            network = parse_network(await self._engine.network(name))
        except NotFoundError as exc:
            raise ConfigurationError(
                f"There is no Docker network '{name}' on this engine. Make it with: docker network "
                f"create {name} (or set EG_DOCKER_NETWORK to one that exists)."
            ) from exc
        ip = response_ip(network, self.settings.current.response, source_towards)
        return await self.tools.responses.open(ip)

    async def _until_ready(
        self,
        request: LaunchRequest,
        report: asyncio.Future[Report],
        script: ScriptRun,
        progress: ContainerLaunch,
    ) -> None:
        """Wait for the first of report, script failure and container death, and judge it."""
        subject = f"Kernel {request.kernel_id} ({request.kernel_name}) did not start"
        waited: set[asyncio.Future[Any]] = {report, script.result, progress.death}
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
                reason = progress.death.result()
                advice = ""
                if "out of memory" in reason:
                    advice = " Raise mem_limit in the kernelspec's launch script."
                raise LaunchError(
                    f"{subject}: its container ended before the kernel was ready: "
                    f"{reason}.{advice}\n{await progress.output()}".rstrip()
                )
        check_report(report.result(), request)

    async def _reachable(self, request: LaunchRequest) -> Workload:
        """Return the workload, whose agent takes connections from here."""
        workload = await self.observe(request.kernel_id)
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

    async def _discard(self, kernel_id: str, script: ScriptRun | None, public_key: str) -> None:
        """Leave nothing of a launch that failed, wherever it failed."""
        remove = functools.partial(self._remove_own, kernel_id, public_key)
        in_flight = False
        if script is not None:
            await script.kill()
            in_flight = script.result.result().was_cut_short
        try:
            await remove()
        except GatewayError as exc:
            _log.warning("Cleaning up after kernel %s: %s Trying again.", kernel_id, exc)
            in_flight = True
        if in_flight:
            self._late_removals.begin(kernel_id, remove)

    async def _remove_own(self, kernel_id: str, public_key: str) -> None:
        """Remove a kernel's containers, but for those that report to another gateway process.

        A client may have asked two of them for a kernel of the same id: one launches it, the other
        fails since the name is taken.
        """
        for container in await self._engine.containers(kernel_id):
            with contextlib.suppress(NotFoundError):
                inspected = await self._engine.container(container["Id"])
                variables = (entry.partition("=") for entry in inspected["Config"]["Env"] or ())
                keys = {value for name, _, value in variables if name.endswith("PUBLIC_KEY")}
                if keys <= {"", public_key}:
                    await self._engine.remove(container["Id"])


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


def _describe(
    progress: ContainerLaunch, script: ScriptRun | None, endpoint: ResponseEndpoint
) -> str:
    """Say how far a launch had come when its time was over."""
    if progress.state is WorkloadState.RUNNING:
        return (
            f"its container runs, but nothing has reported to {endpoint.address} yet "
            "(a firewall between containers and this address would look the same)."
        )
    if progress.state is WorkloadState.STARTING:
        return "the engine has made its container, but not started it yet."
    if script is None or not script.result.done():
        return "the launch script has not ended yet (the engine may be pulling the image)."
    return "the launch script has ended, but there is no container with the kernel's labels."


def _unreachable(request: LaunchRequest, endpoint: AgentEndpoint) -> str:
    return (
        f"Kernel {request.kernel_id} ({request.kernel_name}) runs in its container, but this "
        f"gateway cannot reach {endpoint.host}:{endpoint.port}. Run the gateway on the engine's "
        "own host or in a container of the kernels' network."
    )
