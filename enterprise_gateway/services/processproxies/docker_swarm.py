"""Kernels in Docker containers and in services of a Docker swarm.

Kernelspecs name the classes in this module.
"""

import asyncio
import contextlib
import functools
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime

from enterprise_gateway.errors import (
    ConfigurationError,
    ConflictError,
    LaunchError,
    LaunchTimeoutError,
    NotFoundError,
    PreparingError,
)
from enterprise_gateway.services.processproxies.contract import (
    PULLED_BY_NODES,
    ImagePull,
    KernelImage,
    LaunchRequest,
    Workload,
)
from enterprise_gateway.services.processproxies.engine.client import NotAManagerError
from enterprise_gateway.services.processproxies.engine.containers import DockerContainers
from enterprise_gateway.services.processproxies.engine.images import DockerImages
from enterprise_gateway.services.processproxies.engine.network import KernelNetwork
from enterprise_gateway.services.processproxies.engine.services import DockerServices
from enterprise_gateway.services.processproxies.engine_proxy import EngineProcessProxy
from enterprise_gateway.services.processproxies.injection.config import AgentConfig
from enterprise_gateway.services.processproxies.injection.injector import (
    ConfigInjector,
    VolumeInjector,
)
from enterprise_gateway.services.processproxies.injection.volume import AgentVolume
from enterprise_gateway.services.processproxies.launch.attempt import LaunchAttempt
from enterprise_gateway.services.processproxies.launch.base import LaunchTools
from enterprise_gateway.services.processproxies.launch.container import (
    ContainerLaunch,
    create_sidecar_container,
)
from enterprise_gateway.services.processproxies.launch.environment import (
    DockerMode,
    choose_image,
    choose_pull_policy,
    launch_environment,
)
from enterprise_gateway.services.processproxies.launch.progress import LaunchProgress
from enterprise_gateway.services.processproxies.launch.service import (
    ServiceLaunch,
    create_sidecar_service,
    describe_shortage,
)
from enterprise_gateway.services.processproxies.pulls.nodes import NodePulls
from enterprise_gateway.services.processproxies.steps import Step, StepRecorder
from enterprise_gateway.services.processproxies.watch.containers import DockerWatch
from enterprise_gateway.services.processproxies.watch.services import SwarmWatch
from enterprise_gateway.services.processproxies.workloads.containers import member_of_container
from enterprise_gateway.services.processproxies.workloads.names import (
    escape_username,
    workload_name,
)
from enterprise_gateway.services.processproxies.workloads.services import (
    environment_of,
    member_of_service,
    newest_tasks,
)
from enterprise_gateway.services.processproxies.workloads.sidecars import PairIndex
from enterprise_gateway.services.processproxies.workloads.swarm_objects import OWNER_LABEL
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.settings.parse import NEVER

_OVERLAY = "--driver overlay --attachable "
"""Options of `docker network create` for a network that services and containers can share."""


class DockerProcessProxy(EngineProcessProxy):
    """Launches kernels as containers of the engine that the settings name."""

    mode = DockerMode.DOCKER
    keeps_pools = True
    can_pause = True

    def __init__(
        self,
        settings: LiveSettings,
        tools: LaunchTools,
        *,
        containers: DockerContainers | None = None,
    ) -> None:
        """Build the collaborators; the engine is not contacted yet.

        Args:
            settings: the settings.
            tools: of the gateway.
            containers: the containers to work with; None for those of the tools' engine.
        """
        self._containers = containers or DockerContainers(tools.engine, settings.current.cluster_id)
        self._agent_volume = AgentVolume(tools.engine, self._containers, settings)
        self._preparing: dict[str, tuple[str, str]] = {}
        super().__init__(
            settings,
            tools,
            workloads=self._containers,
            watch=DockerWatch(tools.engine, self._containers, settings),
            injector=VolumeInjector(DockerImages(tools.engine), tools.bundles, self._agent_volume),
            create_sidecar=functools.partial(
                create_sidecar_container, self._containers, tools.pulls
            ),
        )

    async def close(self) -> None:
        """See the base class."""
        await self._agent_volume.close()
        await super().close()

    async def prepare(self, request: LaunchRequest) -> None:
        """Wait until the engine has the kernel's image."""
        request.steps.begin(Step.PULL)
        settings = self.settings.current
        policy = choose_pull_policy(request, settings.docker)
        env = launch_environment(request, settings, self.mode)
        image, docker_config = env["KERNEL_IMAGE"], env.get("DOCKER_CONFIG", "")
        self._preparing[request.kernel_id] = image, docker_config
        try:
            await self.tools.pulls.provide(image, policy, docker_config, request.timeout)
        except LaunchError as exc:
            raise LaunchError(
                f"{exc} Build or load it, or correct its name (image_name in kernel.json, "
                "KERNEL_IMAGE)."
            ) from exc
        finally:
            del self._preparing[request.kernel_id]

    async def assign(self, workload: Workload, username: str) -> Workload:
        """Rename the container, which the engine does for one gateway only."""
        name = workload_name(username, workload.kernel_id)
        try:
            await self._containers.rename(workload.name, name)
        except NotFoundError as exc:
            raise ConflictError(f"Kernel {workload.kernel_id} is in no pool any more.") from exc
        return replace(workload, name=name, username=escape_username(username))

    async def pause(self, workload: Workload) -> None:
        """Have the engine freeze the container."""
        members = (await self._find(workload.kernel_id)).members
        if len(members) > 1:
            raise ConflictError(f"Kernel {workload.kernel_id} has a sidecar: it is not paused.")
        for engine_id in members:
            with contextlib.suppress(ConflictError):  # another gateway was faster
                await self._containers.pause(engine_id)

    async def resume(self, workload: Workload) -> None:
        """Have the engine let the container go on."""
        with contextlib.suppress(ConflictError, NotFoundError):
            await self._containers.unpause(workload.name)

    def preparing(self, request: LaunchRequest) -> ImagePull | None:
        """See the base class."""
        awaited = self._preparing.get(request.kernel_id)
        return self.tools.pulls.state(*awaited) if awaited is not None else None

    async def find_image(self, request: LaunchRequest) -> KernelImage:
        """See the base class."""
        docker = self.settings.current.docker
        name = choose_image(request, docker)
        image_id = await self.tools.pulls.find(name)
        policy = choose_pull_policy(request, docker)
        return KernelImage(name, is_present=bool(image_id), pull_policy=policy, image_id=image_id)

    async def created(self, workload: Workload) -> float:
        """See the base class."""
        inspected = await self._containers.inspect(workload.name)
        return datetime.fromisoformat(inspected["Created"]).timestamp()

    async def _find(self, kernel_id: str | None = None) -> PairIndex:
        network = self.settings.current.docker.network
        found = [
            member_of_container(container, network)
            for container in await self._containers.list(kernel_id)
        ]
        return PairIndex(member for member in found if member is not None)

    def _begin_progress(
        self, steps: StepRecorder, predecessors: Collection[str], network: str
    ) -> LaunchProgress:
        del network  # without a free address in it the engine refuses the container at once
        return ContainerLaunch(self._containers, steps, predecessors)

    async def _kernel_network(self, name: str) -> KernelNetwork:
        network = await self._inspect_network(name)
        if network.is_of_swarm and not network.is_attachable:
            raise ConfigurationError(
                f"Containers cannot join the Docker network '{name}', which is for services only. "
                f"Make one that both can join with: docker network create {_OVERLAY}NAME, and set "
                "EG_DOCKER_NETWORK to it."
            )
        return network


class DockerSwarmProcessProxy(EngineProcessProxy):
    """Launches kernels as services of the swarm that the engine of the settings manages.

    An engine that manages no swarm has none, and none can be launched on it.
    """

    mode = DockerMode.SWARM
    keeps_pools = True

    def __init__(
        self,
        settings: LiveSettings,
        tools: LaunchTools,
        *,
        services: DockerServices | None = None,
    ) -> None:
        """Build the collaborators; the engine is not contacted yet.

        Args:
            settings: the settings.
            tools: of the gateway.
            services: the services to work with; None for those of the tools' engine.
        """
        self._services = services or DockerServices(tools.engine, settings.current.cluster_id)
        self._swarm = SwarmWatch(tools.engine, self._services, settings)
        images, config = DockerImages(tools.engine), AgentConfig(tools.engine)
        super().__init__(
            settings,
            tools,
            workloads=self._services,
            watch=self._swarm,
            injector=ConfigInjector(images, tools.bundles, config),
            create_sidecar=functools.partial(create_sidecar_service, self._services),
        )
        self._node_pulls = NodePulls(settings, self._services, tools.pulls)

    async def close(self) -> None:
        """See the base class."""
        await self._node_pulls.close()
        await super().close()

    async def prepare(self, request: LaunchRequest) -> None:
        """Wait for nodes that pull the image for an earlier start, if none has it yet."""
        image, docker_config = self._image_of(request)
        if self._node_pulls.is_awaited(image, docker_config):
            request.steps.begin(Step.PULL)
            await self._node_pulls.wait(image, docker_config, request.timeout)

    async def launch(self, request: LaunchRequest) -> Workload:
        """See the base class.

        Raises:
            PreparingError: no node has the image yet, and they go on pulling it.
        """
        try:
            return await super().launch(request)
        except LaunchTimeoutError as exc:
            image, docker_config = self._image_of(request)
            if not self._node_pulls.is_awaited(image, docker_config):
                raise
            raise PreparingError(
                f"{exc} The nodes of the swarm go on pulling the image {image}; try again."
            ) from exc

    async def _give_up(self, attempt: LaunchAttempt) -> str:
        """See the base class. The node of a task that is removed gives the pull of its image up."""
        policy = choose_pull_policy(attempt.request, self.settings.current.docker)
        if attempt.progress.may_be_pulling and policy != NEVER:
            self._node_pulls.begin(*self._image_of(attempt.request))
        return await super()._give_up(attempt)

    def _image_of(self, request: LaunchRequest) -> tuple[str, str]:
        """Return the image of a kernel, and the folder with the credentials."""
        image = choose_image(request, self.settings.current.docker)
        return image, request.env.get("DOCKER_CONFIG", "")

    async def pull_image(self, request: LaunchRequest) -> None:
        """Have all nodes of the swarm pull the image, unless the policy is `Never`."""
        if choose_pull_policy(request, self.settings.current.docker) != NEVER:
            await self._node_pulls.pull(*self._image_of(request))

    async def assign(self, workload: Workload, username: str) -> Workload:
        """Label the service with its user; a service cannot be renamed."""
        owner = escape_username(username)
        await self._services.label(workload.name, OWNER_LABEL, owner)
        return replace(workload, username=owner)

    async def check(self) -> None:
        """See the base class."""
        await super().check()
        with contextlib.suppress(NotAManagerError):
            await self._services.services(ids=["none"])

    async def find_image(self, request: LaunchRequest) -> KernelImage:
        """See the base class."""
        name = choose_image(request, self.settings.current.docker)
        image_id = await self.tools.pulls.find(name)
        return KernelImage(name, bool(image_id), PULLED_BY_NODES, image_id)

    async def launched_with(self, workload: Workload) -> Mapping[str, str]:
        """See the base class."""
        service = self._swarm.service(workload.name)
        if service is not None:
            return environment_of(service)
        return await super().launched_with(workload)

    async def _find(self, kernel_id: str | None = None) -> PairIndex:
        try:
            services = await self._services.services(kernel_id=kernel_id)
            if not services:
                return PairIndex()
            nodes, tasks = await asyncio.gather(
                self._services.nodes(), self._services.tasks(kernel_id=kernel_id)
            )
        except NotAManagerError:
            return PairIndex()
        newest = newest_tasks(tasks)
        if any(service.id not in newest for service in services):
            # Created just now, or removed between the calls.
            services = await self._services.services(kernel_id=kernel_id)
        by_id = {node.id: node for node in nodes}
        network = self.settings.current.docker.network
        return PairIndex(
            member_of_service(service, newest.get(service.id), by_id, network)
            for service in services
            if service.kernel_id
        )

    def _begin_progress(
        self, steps: StepRecorder, predecessors: Collection[str], network: str
    ) -> LaunchProgress:
        find_shortage = functools.partial(self._find_shortage, network)
        return ServiceLaunch(self._services, steps, predecessors, find_shortage)

    async def _find_shortage(self, network_name: str, service_id: str) -> str:
        network = await self._inspect_network(network_name)
        tasks = await self._services.all_running_tasks()
        return describe_shortage(network, tasks, service_id)

    async def _kernel_network(self, name: str) -> KernelNetwork:
        try:
            if (
                not self._services.managed.is_set()
            ):  # no manager has answered so far, not even `_remove_previous`
                await self._services.services(ids=["none"])
        except NotAManagerError as exc:
            raise ConfigurationError(
                f"Kernels of this kernelspec are Swarm services, which need a manager of a swarm "
                f"as the gateway's engine. {exc} (Or set DOCKER_HOST to a manager, or class_name "
                "in the kernelspec to DockerProcessProxy.)"
            ) from exc
        network = await self._inspect_network(name, _OVERLAY)
        if not network.is_of_swarm or network.is_ingress:
            raise ConfigurationError(
                f"Services cannot use the Docker network '{name}', which is not an overlay network "
                f"of the swarm. Make one with: docker network create {_OVERLAY}NAME, and set "
                "EG_DOCKER_NETWORK to it."
            )
        return network
