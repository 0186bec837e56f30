"""Kernels in Docker containers and in services of a Docker swarm.

The module's name is the documented one.
"""

import asyncio
import contextlib
import sys
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path

from enterprise_gateway.errors import ConfigurationError, NotFoundError
from enterprise_gateway.services.processproxies.agent_bundle import AgentBundle
from enterprise_gateway.services.processproxies.agent_config import AgentConfig
from enterprise_gateway.services.processproxies.agent_volume import AgentVolume
from enterprise_gateway.services.processproxies.companion import Companion
from enterprise_gateway.services.processproxies.contract import Workload
from enterprise_gateway.services.processproxies.couples import Couples
from enterprise_gateway.services.processproxies.docker_containers import DockerContainers
from enterprise_gateway.services.processproxies.docker_engine import NotAManagerError
from enterprise_gateway.services.processproxies.docker_environment import (
    AGENT_CONFIG,
    AGENT_VOLUME,
    DockerMode,
)
from enterprise_gateway.services.processproxies.docker_images import has_agent, is_own_image
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
_PULL = Path(__file__).with_name("pull_image.py")


class DockerProcessProxy(EngineProcessProxy):
    """Launches kernels as containers of the engine that the settings name."""

    mode = DockerMode.DOCKER

    def __init__(self, settings: LiveSettings, tools: LaunchTools) -> None:
        self._containers = DockerContainers(tools.engine, settings.current.cluster_id)
        watch = DockerWatch(tools.engine, self._containers, lambda: settings.current.docker.network)
        super().__init__(settings, tools, watch)
        self._agent_volume = AgentVolume(tools.engine, self._containers)

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

    async def _environment(self, engine_id: str) -> dict[str, str]:
        return await self._containers.environment(engine_id)

    async def _read_tail(self, engine_id: str, max_lines: int) -> str:
        return await self._containers.log_tail(engine_id, max_lines)

    async def _remove(self, engine_id: str) -> None:
        await self._containers.remove(engine_id)

    async def _labels(self, engine_id: str) -> Mapping[str, str]:
        inspected = await self._containers.inspect(engine_id)
        return inspected["Config"]["Labels"] or {}

    async def _create_companion(self, companion: Companion) -> None:
        await self._containers.create_companion(companion)

    def _begin_progress(self, predecessors: Collection[str]) -> LaunchProgress:
        return ContainerLaunch(self._containers, predecessors)

    async def _lacks_agent(self, env: Mapping[str, str]) -> bool:
        image = env["KERNEL_IMAGE"]
        labels = await self._images.labels(image)
        if labels is None and not is_own_image(image):
            await self._pull(image, env)
            labels = await self._images.labels(image)
        return labels is not None and not has_agent(labels)  # None: the launch script says why

    async def _place_agent(self, bundle: AgentBundle, image: str) -> dict[str, str]:
        await asyncio.shield(self._begin(self._agent_volume.ensure(bundle, image)))
        return {AGENT_VOLUME: bundle.name}

    async def _pull(self, image: str, env: Mapping[str, str]) -> None:
        """Pull an image, or try to."""
        argv = [sys.executable, str(_PULL), image]
        pulling = await self.tools.scripts.run(argv, env, "/")
        try:
            await asyncio.wait({pulling.result})
        finally:
            await pulling.kill()

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
        super().__init__(settings, tools, self._swarm)
        self._agent_config = AgentConfig(tools.engine)

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

    async def _environment(self, engine_id: str) -> dict[str, str]:
        try:
            return environment_of(await self._services.inspect(engine_id))
        except NotAManagerError:
            return {}

    async def _read_tail(self, engine_id: str, max_lines: int) -> str:
        with contextlib.suppress(NotFoundError):
            return await self._services.log_tail(engine_id, max_lines)
        return ""

    async def _remove(self, engine_id: str) -> None:
        with contextlib.suppress(NotFoundError):
            await self._services.remove(engine_id)

    async def _labels(self, engine_id: str) -> Mapping[str, str]:
        return (await self._services.inspect(engine_id)).spec.labels or {}

    async def _create_companion(self, companion: Companion) -> None:
        await self._services.create_companion(companion)

    def _begin_progress(self, predecessors: Collection[str]) -> LaunchProgress:
        return ServiceLaunch(self._services, predecessors)

    async def _lacks_agent(self, env: Mapping[str, str]) -> bool:
        # An image that this manager does not have may be on nodes. If it has an agent after all,
        # what is lent gives way to it.
        return not has_agent(await self._images.labels(env["KERNEL_IMAGE"]) or {})

    async def _place_agent(self, bundle: AgentBundle, image: str) -> dict[str, str]:
        del image
        return {AGENT_CONFIG: f"{await self._agent_config.ensure(bundle)}:{bundle.name}"}

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
