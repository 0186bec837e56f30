"""The images on an engine."""

import re
from collections.abc import AsyncGenerator, Mapping
from fnmatch import fnmatchcase
from http import HTTPStatus

import msgspec
from aiodocker import DockerError

from enterprise_gateway.errors import (
    ConflictError,
    LaunchError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.processproxies.engine.client import DockerEngine

_AGENT_LABEL = "enterprise-gateway.agent"
"""Label of images that contain a kernel agent.

An empty value means that there is none: a derived image can remove the agent, but not the label.
"""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:(?:localhost|{_LABEL}(?:\.{_LABEL})+|{_LABEL}(?=:[0-9]))(?::[0-9]+)?/)?"
    rf"{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}))?"
)
"""Docker's grammar: https://pkg.go.dev/github.com/distribution/reference, digests as in
https://github.com/opencontainers/image-spec/blob/main/descriptor.md#registered-algorithms.

A matching name is safe in the path of a request. The host of a registry has a dot or a port, or is
`localhost`; IPv6 addresses in brackets are left out, because old engines do not know them.
"""
_MAX_NAME_CHARS = 255
_MAX_CHARS = 600
"""The length of name, tag and digest together, rounded up."""


DOCKER_HUB = "docker.io"
"""The registry of names without a host."""
_DOCKER_HUBS = (DOCKER_HUB, "index.docker.io")
_HOST = re.compile(r"localhost|.*[.:].*|.*[A-Z].*")
_ID = re.compile(r"(sha256:)?[0-9a-f]{1,64}")
"""The engine finds images by the first digits of their ids."""
_MAX_ERROR_CHARS = 1000


class ImageConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """The configuration of an image."""

    labels: dict[str, str] | None = None
    entrypoint: list[str] | None = None


class _Image(msgspec.Struct, frozen=True, rename="pascal"):
    """The answer to `GET /images/NAME/json` (API 1.41)."""

    id: str = ""
    config: ImageConfig | None = None


class PullDetail(msgspec.Struct, frozen=True):
    """How many bytes of a layer are there; both are missing in most messages."""

    current: int = 0
    total: int = 0


class PullMessage(msgspec.Struct, frozen=True, rename="camel"):
    """One line of the answer to `POST /images/create`."""

    status: str = ""
    id: str = ""
    progress_detail: PullDetail | None = None
    error: str = ""


class DockerImages:
    """Sends an engine requests about its images."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine

    async def config(self, name: str) -> ImageConfig | None:
        """Return the configuration of an image, None if the engine does not have the image."""
        try:
            image = await self._engine.fetch(f"images/{name}/json", _Image)
        except NotFoundError:
            return None
        return image.config or ImageConfig()

    async def identify(self, name: str) -> str:
        """Return the id of an image, "" if the engine does not have the image."""
        try:
            return (await self._engine.fetch(f"images/{name}/json", _Image)).id
        except NotFoundError:
            return ""

    async def pull(self, name: str, registry_auth: str = "") -> AsyncGenerator[PullMessage]:
        """Pull an image, and yield what the engine says meanwhile, for as long as that takes.

        The engine gives the pull up if the iterator is closed before its end.

        Args:
            name: the image; without tag or digest that of the tag `latest`.
            registry_auth: header `X-Registry-Auth`, "" to pull without credentials.

        Raises:
            LaunchError: it cannot be pulled, in the words of engine or registry.
            UnavailableError: the engine does not answer.
        """
        try:
            async with self._engine.posted(
                "images/create",
                params={"fromImage": canonical_name(name)},
                headers={"X-Registry-Auth": registry_auth} if registry_auth else {},
            ) as lines:
                async for line in lines:
                    message = msgspec.json.decode(line, type=PullMessage)
                    if message.error:
                        raise LaunchError(message.error[:_MAX_ERROR_CHARS])
                    yield message
        except (ConflictError, NotFoundError) as exc:
            raise LaunchError(str(exc)) from exc
        except UnavailableError as exc:
            # the engine has no other status for what a registry refuses
            is_answer = (
                isinstance(exc.__cause__, DockerError)
                and exc.__cause__.status == HTTPStatus.INTERNAL_SERVER_ERROR
            )
            raise (LaunchError(str(exc)) if is_answer else exc) from exc
        except ValueError as exc:  # no JSON, or a line without end
            raise UnavailableError("The engine's answer to the pull is malformed.") from exc


def canonical_name(name: str) -> str:
    """Return an image name with its registry and its tag: `docker.io/library/debian:latest`."""
    host, slash, _ = name.partition("/")
    if not slash:
        name = f"{DOCKER_HUB}/library/{name}"
    elif not _HOST.fullmatch(host):
        name = f"{DOCKER_HUB}/{name}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def registry_of(name: str) -> str:
    """Return the host, and port, of the registry that an image is pulled from."""
    return canonical_name(name).partition("/")[0]


def fits_image(pattern: str, name: str) -> bool:
    """Return whether an image name fits a pattern, in which `*` and `?` stand for any characters.

    Registry, repository, and tag or digest are compared each by itself, as the engine understands
    them: `team/*` is of Docker Hub, and no `*` reaches from a registry into a repository. A pattern
    without tag and digest fits all of them. A digest decides what is run, whatever tag stands
    before it, so a name with one fits only a pattern with the same, or with neither. A name that
    the engine may take for the id of any image that it has, such as `cafe`, fits no pattern but
    itself; `cafe:latest` does.

    Args:
        pattern: `*` alone for any image.
        name: an image name, as `is_image_name` accepts it.
    """
    if pattern in ("*", name):
        return True
    if _may_be_id(name):
        return False
    wanted, named = _split(pattern), _split(name)
    if not (fnmatchcase(named[0], wanted[0]) and fnmatchcase(named[1], wanted[1])):
        return False
    _, _, tag, digest = wanted
    if digest or (named[3] and tag):
        return digest == named[3]
    return not tag or fnmatchcase(named[2] or "latest", tag)


def is_same_image(one: str, other: str) -> bool:
    """Return whether two image names stand for the same image in the same registry."""
    if _may_be_id(one) or _may_be_id(other):
        return one == other
    ours, theirs = _split(one), _split(other)
    if ours[:2] != theirs[:2]:
        return False
    if ours[3] or theirs[3]:
        return ours[3] == theirs[3]
    return (ours[2] or "latest") == (theirs[2] or "latest")


def _may_be_id(name: str) -> bool:
    return _ID.fullmatch(name) is not None


def _split(name: str) -> tuple[str, str, str, str]:
    """Return registry, repository, tag and digest of an image or a pattern; "" for none."""
    name, _, digest = name.partition("@")
    host, slash, path = name.partition("/")
    if not slash:
        host, path = DOCKER_HUB, f"library/{name}"
    elif host != "*" and not _HOST.fullmatch(host):
        host, path = DOCKER_HUB, name
    elif host in _DOCKER_HUBS:
        host, path = DOCKER_HUB, path if "/" in path else f"library/{path}"
    repository, _, tag = path.partition(":")
    return host, repository, tag, digest


def has_agent(labels: Mapping[str, str]) -> bool:
    """Return whether an image with these labels contains a kernel agent."""
    return bool(labels.get(_AGENT_LABEL))


def is_in_no_registry(name: str) -> bool:
    """Return whether an image is in no registry, only built or loaded, as this project's own are.

    The host of its name is `localhost`, without a port.
    """
    return name.startswith("localhost/")


def is_image_name(text: str) -> bool:
    """Return whether a text, which a user may choose (`KERNEL_IMAGE`), is an image name or id."""
    match = _REFERENCE.fullmatch(text[:_MAX_CHARS])
    return match is not None and match[0] == text and len(match["name"]) <= _MAX_NAME_CHARS
