"""Lending the gateway's agent to images that bring none."""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from enterprise_gateway.errors import GatewayError, LaunchError, UnavailableError
from enterprise_gateway.services.processproxies.agent_bundle import AgentBundle, BundleMaker
from enterprise_gateway.services.processproxies.agent_config import AgentConfig
from enterprise_gateway.services.processproxies.agent_volume import AgentVolume
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.docker_environment import AGENT_CONFIG, AGENT_VOLUME
from enterprise_gateway.services.processproxies.docker_images import (
    DockerImages,
    has_agent,
    is_image_name,
    is_own_image,
)
from enterprise_gateway.services.processproxies.scripts import ScriptRunner

_PULL = Path(__file__).with_name("pull_image.py")


class AgentLender(ABC):
    """Has the gateway's agent where the launch script can mount it."""

    def __init__(self, images: DockerImages, bundles: BundleMaker) -> None:
        self._images = images
        self._bundles = bundles

    async def lend(self, request: LaunchRequest, env: Mapping[str, str]) -> dict[str, str]:
        """Lend a kernel's image the agent, if it has none of its own.

        Args:
            request: the kernel's launch.
            env: the environment of its launch script.

        Returns:
            What tells the launch script of it, to be added to its environment.

        Raises:
            LaunchError, UnavailableError: the engine does not have it, and says why.
        """
        image = env["KERNEL_IMAGE"]
        # One that has no name of an image is for the launch script to refuse.
        if not is_image_name(image) or not await self._lacks_agent(env):
            return {}
        try:
            return await self._place(await self._bundles.bundle(), image)
        except GatewayError as exc:
            kind = UnavailableError if isinstance(exc, UnavailableError) else LaunchError
            raise kind(
                f"Kernel {request.kernel_id} ({request.kernel_name}) did not start: the image "
                f"{image} brings no kernel agent, and the gateway's could not be lent to it. {exc} "
                "An image with an agent of its own (docs/custom-images.md) does without."
            ) from exc

    @abstractmethod
    async def _lacks_agent(self, env: Mapping[str, str]) -> bool:
        """Say whether the image that a launch script is to use brings no kernel agent."""

    @abstractmethod
    async def _place(self, bundle: AgentBundle, image: str) -> dict[str, str]:
        """Have the agent on the engine; return what `lend` does."""


class VolumeLender(AgentLender):
    """Lends the agent to containers."""

    def __init__(
        self,
        images: DockerImages,
        bundles: BundleMaker,
        volume: AgentVolume,
        scripts: ScriptRunner,
    ) -> None:
        super().__init__(images, bundles)
        self._volume = volume
        self._scripts = scripts

    async def _lacks_agent(self, env: Mapping[str, str]) -> bool:
        image = env["KERNEL_IMAGE"]
        labels = await self._images.labels(image)
        if labels is None and not is_own_image(image):
            await self._pull(image, env)
            labels = await self._images.labels(image)
        return labels is not None and not has_agent(labels)  # None: the launch script says why

    async def _pull(self, image: str, env: Mapping[str, str]) -> None:
        """Pull an image, or try to."""
        pulling = await self._scripts.run([sys.executable, str(_PULL), image], env, "/")
        try:
            await asyncio.wait({pulling.result})
        finally:
            await pulling.kill()

    async def _place(self, bundle: AgentBundle, image: str) -> dict[str, str]:
        await self._volume.ensure(bundle, image)
        return {AGENT_VOLUME: bundle.name}


class ConfigLender(AgentLender):
    """Lends the agent to services."""

    def __init__(self, images: DockerImages, bundles: BundleMaker, config: AgentConfig) -> None:
        super().__init__(images, bundles)
        self._config = config

    async def _lacks_agent(self, env: Mapping[str, str]) -> bool:
        # An image that this manager does not have may be on nodes. If it has an agent after all,
        # what is lent gives way to it.
        return not has_agent(await self._images.labels(env["KERNEL_IMAGE"]) or {})

    async def _place(self, bundle: AgentBundle, image: str) -> dict[str, str]:
        del image
        return {AGENT_CONFIG: f"{await self._config.ensure(bundle)}:{bundle.name}"}
