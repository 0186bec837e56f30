"""Kernels in Docker containers and in services of a Docker swarm.

The module's name is the documented one.
"""

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from datetime import datetime

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.agent_config import AgentConfig
from enterprise_gateway.services.processproxies.agent_loan import ConfigLender, VolumeLender
from enterprise_gateway.services.processproxies.agent_volume import AgentVolume
from enterprise_gateway.services.processproxies.contract import Workload
from enterprise_gateway.services.processproxies.couples import Couples
from enterprise_gateway.services.processproxies.docker_containers import DockerContainers
from enterprise_gateway.services.processproxies.docker_engine import NotAManagerError
from enterprise_gateway.services.processproxies.docker_environment import DockerMode
from enterprise_gateway.services.processproxies.docker_images import DockerImages
from enterprise_gateway.services.processproxies.docker_launch import ContainerLaunch
from enterprise_gateway.services.processproxies.docker_network import KernelNetwork
from enterprise_gateway.services.processproxies.docker_services import DockerServices
from enterprise_gateway.services.processproxies.docker_watch import DockerWatch
from enterprise_gateway.services.processproxies.docker_workloads import part_of_container
from enterprise_gateway.services.processproxies.engine_launch import LaunchProgress
from enterprise_gateway.services.processproxies.engine_proxy import EngineProcessProxy
from enterprise_gateway.services.processproxies.reporting import LaunchTools
from enterprise_gateway.services.processproxies.swarm_launch import ServiceLaunch
from enterprise_gateway.services.processproxies.swarm_watch import SwarmWatch
from enterprise_gateway.services.processproxies.swarm_workloads import (
    environment_of,
    newest_tasks,
    part_of_service,
)
from enterprise_gateway.settings import LiveSettings

_OVERLAY = "--driver overlay --attachable "
"""What `docker network create` needs for a network that services and containers can share."""


class DockerProcessProxy(EngineProcessProxy):
    """Launches kernels as containers of the engine that the settings name."""

    mode = DockerMode.DOCKER

    def __init__(self, settings: LiveSettings, tools: LaunchTools) -> None:
        self._containers = DockerContainers(tools.engine, settings.current.cluster_id)
        watch = DockerWatch(tools.engine, self._containers, lambda: settings.current.docker.network)
        self._agent_volume = AgentVolume(tools.engine, self._containers)
        lender = VolumeLender(
            DockerImages(tools.engine), tools.bundles, self._agent_volume, tools.scripts
        )
        super().__init__(settings, tools, self._containers, watch, lender)

    async def close(self) -> None:
        """See the base class."""
        await self._agent_volume.close()
        await super().close()

    async def created(self, workload: Workload) -> float:
        """See the base class."""
        inspected = await self._containers.inspect(workload.name)
        return datetime.fromisoformat(inspected["Created"]).timestamp()

    async def _find(self, kernel_id: str | None = None) -> Couples:
        network = self.settings.current.docker.network
        found = [
            part_of_container(container, network)
            for container in await self._containers.list(kernel_id)
        ]
        return Couples(part for part in found if part is not None)

    def _begin_progress(self, predecessors: Collection[str]) -> LaunchProgress:
        return ContainerLaunch(self._containers, predecessors)

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

    On an engine that manages no swarm there are none, and none can be launched.
    """

    mode = DockerMode.SWARM

    def __init__(self, settings: LiveSettings, tools: LaunchTools) -> None:
        self._services = DockerServices(tools.engine, settings.current.cluster_id)
        self._swarm = SwarmWatch(
            tools.engine, self._services, lambda: settings.current.docker.network
        )
        config = AgentConfig(tools.engine)
        lender = ConfigLender(DockerImages(tools.engine), tools.bundles, config)
        super().__init__(settings, tools, self._services, self._swarm, lender)

    async def check(self) -> None:
        """See the base class."""
        await super().check()
        with contextlib.suppress(NotAManagerError):
            await self._services.services(ids=["none"])

    async def launched_with(self, workload: Workload) -> Mapping[str, str]:
        """See the base class."""
        service = self._swarm.service(workload.name)
        if service is not None:
            return environment_of(service)
        return await super().launched_with(workload)

    async def _find(self, kernel_id: str | None = None) -> Couples:
        try:
            services = await self._services.services(kernel_id=kernel_id)
            if not services:
                return Couples()
            nodes, tasks = await asyncio.gather(
                self._services.nodes(), self._services.tasks(kernel_id=kernel_id)
            )
        except NotAManagerError:
            return Couples()
        newest = newest_tasks(tasks)
        if any(service.id not in newest for service in services):
            # Just made, or gone in between.
            services = await self._services.services(kernel_id=kernel_id)
        by_id = {node.id: node for node in nodes}
        network = self.settings.current.docker.network
        return Couples(
            part_of_service(service, newest.get(service.id), by_id, network)
            for service in services
            if service.kernel_id
        )

    def _begin_progress(self, predecessors: Collection[str]) -> LaunchProgress:
        return ServiceLaunch(self._services, predecessors)

    async def _kernel_network(self, name: str) -> KernelNetwork:
        try:
            if not self._services.managed.is_set():  # no manager answered, `_make_way` neither
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
