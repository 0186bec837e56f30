"""The images on an engine, as far as a launch depends on them."""

import re
from collections.abc import Mapping

import msgspec

from enterprise_gateway.errors import NotFoundError
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine

_AGENT_LABEL = "enterprise-gateway.agent"
"""Label of images that bring a kernel agent of their own.

An empty value is none: who builds on such an image and removes the agent cannot remove the label.
"""

_REFERENCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|[.:/@][A-Za-z0-9_])*")
"""What can stand in the path of a request without changing where it leads."""


class _Config(msgspec.Struct, frozen=True, rename="pascal"):
    labels: dict[str, str] | None = None


class _Image(msgspec.Struct, frozen=True, rename="pascal"):
    """The answer to `GET /images/NAME/json` (API 1.41)."""

    config: _Config | None = None


class DockerImages:
    """Asks an engine about its images."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine

    async def labels(self, name: str) -> Mapping[str, str] | None:
        """Return the labels of an image, None if the engine does not have it."""
        try:
            image = await self._engine.fetch(f"images/{name}/json", _Image)
        except NotFoundError:
            return None
        return (image.config.labels if image.config is not None else None) or {}


def has_agent(labels: Mapping[str, str]) -> bool:
    """Say whether an image brings a kernel agent of its own."""
    return bool(labels.get(_AGENT_LABEL))


def is_own_image(name: str) -> bool:
    """Say whether an image is one that the project builds, and no registry is to be asked for."""
    return name.startswith("enterprise-gateway/")


def is_image_name(text: str) -> bool:
    """Say whether a text can be asked for; users may choose it (`KERNEL_IMAGE`)."""
    return _REFERENCE.fullmatch(text) is not None
