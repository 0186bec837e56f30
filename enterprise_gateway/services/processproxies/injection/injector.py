"""Injection of the gateway's agent into images that have none."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from enterprise_gateway.errors import GatewayError, LaunchError, UnavailableError
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.engine.images import (
    DockerImages,
    ImageConfig,
    has_agent,
    is_image_name,
)
from enterprise_gateway.services.processproxies.injection.bundle import AgentBundle, BundleMaker
from enterprise_gateway.services.processproxies.injection.config import AgentConfig
from enterprise_gateway.services.processproxies.injection.volume import AgentVolume

AGENT_VOLUME = "EG_AGENT_VOLUME"
"""The launch script's variable with the name of the agent's volume."""
AGENT_CONFIG = "EG_AGENT_CONFIG"
"""The launch script's variable with id and name (`ID:NAME`) of the agent's config."""
ENTRYPOINT = "EG_AGENT_ENTRYPOINT"
"""The launch script's variable about the image's entry point.

`image` or `none` if the kernelspec says so; else the entry point itself, with a line feed after
every word, for the agent's bundle to decide.
"""


class AgentInjector(ABC):
    """Makes the gateway's agent available to launch scripts."""

    def __init__(self, images: DockerImages, bundles: BundleMaker) -> None:
        self._images = images
        self._bundles = bundles

    async def inject(self, request: LaunchRequest, env: Mapping[str, str]) -> dict[str, str]:
        """Inject the agent into a kernel's image that has none.

        Args:
            request: the kernel's launch.
            env: the environment of its launch script.

        Returns:
            Variables that tell the launch script about it, {} if the image has an agent.

        Raises:
            LaunchError, UnavailableError: the engine refuses the agent's volume or config.
        """
        image = env["KERNEL_IMAGE"]
        # The launch script refuses an invalid image name.
        config = await self._find(image) if is_image_name(image) else None
        if config is None or has_agent(config.labels or {}):
            return {}
        try:
            placed = await self._place(await self._bundles.bundle(), image)
        except GatewayError as exc:
            kind = UnavailableError if isinstance(exc, UnavailableError) else LaunchError
            raise kind(
                f"Kernel {request.kernel_id} ({request.kernel_name}) did not start: the image "
                f"{image} has no kernel agent, and the gateway could not inject its own. {exc} "
                "An image with an agent of its own (docs/custom-images.md) does without."
            ) from exc
        return {ENTRYPOINT: env.get(ENTRYPOINT) or _entrypoint_lines(config), **placed}

    async def _find(self, image: str) -> ImageConfig | None:
        """Return the configuration of the kernel's image.

        None if the engine does not have it, which the launch script reports.
        """
        return await self._images.config(image)

    @abstractmethod
    async def _place(self, bundle: AgentBundle, image: str) -> dict[str, str]:
        """Make the agent available on the engine; return the variables for the launch script."""


class VolumeInjector(AgentInjector):
    """Injects the agent into containers by a volume."""

    def __init__(self, images: DockerImages, bundles: BundleMaker, volume: AgentVolume) -> None:
        super().__init__(images, bundles)
        self._volume = volume

    async def _place(self, bundle: AgentBundle, image: str) -> dict[str, str]:
        await self._volume.ensure(bundle, image)
        return {AGENT_VOLUME: bundle.name}


class ConfigInjector(AgentInjector):
    """Injects the agent into services by a Swarm config."""

    def __init__(self, images: DockerImages, bundles: BundleMaker, config: AgentConfig) -> None:
        super().__init__(images, bundles)
        self._config = config

    async def _find(self, image: str) -> ImageConfig:
        # Nodes may have an image that this manager does not have. If it contains an agent after
        # all, the injected entry point starts that one.
        return await super()._find(image) or ImageConfig()

    async def _place(self, bundle: AgentBundle, image: str) -> dict[str, str]:
        del image
        return {AGENT_CONFIG: f"{await self._config.ensure(bundle)}:{bundle.name}"}


def _entrypoint_lines(config: ImageConfig) -> str:
    """Return the words of an image's entry point, each followed by a line feed."""
    words = config.entrypoint or []
    return "" if any("\n" in word for word in words) else "".join(f"{word}\n" for word in words)
