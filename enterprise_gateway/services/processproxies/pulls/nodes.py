"""Pulls on all nodes of a Swarm.

A manager cannot ask the engine of another node for anything, but it can run a task on every node,
and a node pulls the image of a task first. So a pull is a service of the mode `global-job` (API
1.41) whose tasks end at once: also one that cannot start has its image then.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from enterprise_gateway.errors import (
    ConflictError,
    GatewayError,
    LaunchError,
    NotFoundError,
    PreparingError,
)
from enterprise_gateway.services.processproxies.engine.images import (
    canonical_name,
    is_image_name,
    is_in_no_registry,
)
from enterprise_gateway.services.processproxies.engine.services import DockerServices
from enterprise_gateway.services.processproxies.pulls.credentials import Credentials
from enterprise_gateway.services.processproxies.pulls.pulls import Pulls
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Node, Service, Task
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings

_POLL_SECONDS = 1.0
"""How often the tasks are listed: Swarm reports none of their states by an event."""
_BEFORE_THE_IMAGE = frozenset({"new", "allocated", "pending", "assigned", "accepted", "preparing"})
"""States of a task whose node does not have the image yet; later ones follow in any case."""
_WITHOUT_THE_IMAGE = "rejected"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    """What was last seen of a pull."""

    nodes: list[Node] = field(default_factory=list)
    """Those that take part."""
    tasks: list[Task] = field(default_factory=list)
    has_image: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a node has the image."""


class NodePulls:
    """Has the nodes of a Swarm pull images."""

    def __init__(self, live: LiveSettings, services: DockerServices, pulls: Pulls) -> None:
        """Contact nothing yet.

        Args:
            live: the settings.
            services: of the manager.
            pulls: of the gateway; they know its credentials.
        """
        self._live = live
        self._services = services
        self._pulls = pulls
        self._tasks = BackgroundTasks()
        self._begun = BackgroundTasks()
        self._seen: dict[tuple[str, str], _Seen] = {}
        """Of the pulls that were begun here for starts to come, by image and credentials."""

    async def close(self) -> None:
        """End the pulls that were begun here, and finish the removals under way."""
        await self._begun.cancel()
        await self._tasks.finish()

    def begin(self, image: str, docker_config: str = "") -> None:
        """Have the nodes pull an image for starts to come, which `wait` for it.

        A failure is logged: the next start is told by its own task.
        """
        key = canonical_name(image), docker_config
        if _can_be_pulled(image) and key not in self._seen:
            seen = self._seen[key] = _Seen()
            self._begun.begin(self._run(image, docker_config, seen))

    def is_awaited(self, image: str, docker_config: str = "") -> bool:
        """Return whether a pull that was begun here is under way, and no node has the image yet."""
        seen = self._seen.get((canonical_name(image), docker_config))
        return seen is not None and not seen.has_image.is_set()

    async def wait(self, image: str, docker_config: str, patience: float) -> None:
        """Wait until a node has an image that was begun to be pulled here.

        Swarm may choose another node, which pulls it, or has it already; a node that never gets it
        must not hold up starts that others could serve.

        Args:
            image: its name, or any other text.
            docker_config: the folder with the credentials, "" for the gateway's own.
            patience: how many seconds to wait.

        Raises:
            PreparingError: it takes longer, and goes on.
        """
        seen = self._seen.get((canonical_name(image), docker_config))
        if seen is None:
            return
        try:
            async with asyncio.timeout(patience):
                await seen.has_image.wait()
        except TimeoutError as exc:
            raise PreparingError(
                f"The image {image} is being pulled by the nodes of the swarm. The pull goes on; "
                "try again."
            ) from exc

    async def _run(self, image: str, docker_config: str, seen: "_Seen") -> None:
        """Task root: pull."""
        try:
            await self._pull_on_all(image, docker_config, seen)
        except GatewayError as exc:
            _log.warning("%s", exc)
        finally:
            seen.has_image.set()  # or none will have it by this pull
            del self._seen[canonical_name(image), docker_config]

    async def pull(self, image: str, docker_config: str = "") -> None:
        """Wait until every node that takes part has pulled an image, or has failed to.

        A pull that another gateway has begun is waited for, and goes on if this is cancelled; one
        that was begun here is ended.

        Args:
            image: its name; one that is in no registry is left alone.
            docker_config: the folder with the credentials, "" for the gateway's own.

        Raises:
            LaunchError: a node could not, or not in time.
            NotAManagerError, UnavailableError: as always.
        """
        if _can_be_pulled(image):
            await self._pull_on_all(image, docker_config, _Seen())

    async def _pull_on_all(self, image: str, docker_config: str, seen: "_Seen") -> None:
        seconds = self._live.current.docker.pull_timeout
        try:
            async with asyncio.timeout(seconds):
                while not await self._pull(image, docker_config, seconds, seen):
                    pass
        except TimeoutError as exc:
            if not seen.nodes:
                raise LaunchError(
                    f"The image {image} was not pulled: the swarm did not begin to within "
                    f"{seconds:g} s."
                ) from exc
        failure = describe_failure(image, seen.nodes, seen.tasks, seconds)
        if failure:
            raise LaunchError(failure)

    async def _pull(self, image: str, docker_config: str, seconds: float, seen: "_Seen") -> bool:
        """Pull once; return False if the pull was ended before all nodes had settled."""
        service_id, is_own = await self._begin(image, docker_config, seconds)
        try:
            while True:
                if await self._has_settled(service_id, seen):
                    return True
                await asyncio.sleep(_POLL_SECONDS)
        except NotFoundError:
            return False
        finally:
            if is_own:
                await self._tasks.run(self._services.remove(service_id))

    async def _has_settled(self, service_id: str, seen: "_Seen") -> bool:
        """Look once, and say whether no node is waited for any more.

        Raises:
            NotFoundError: the service is gone.
        """
        nodes = [node for node in await self._services.nodes() if node.takes_tasks]
        seen.nodes, seen.tasks = nodes, await self._services.tasks_of([service_id])
        if find_done(seen.tasks):
            seen.has_image.set()
        return not find_waiting(seen.nodes, seen.tasks)

    async def _begin(self, image: str, docker_config: str, seconds: float) -> tuple[str, bool]:
        """Create the service, or join that of another gateway, which may not have ended.

        One that has is left by a gateway that was killed, or about to be removed: its nodes pulled
        before this was asked for, so it is replaced.

        Returns:
            Its id, and whether it was created here.
        """
        name = self._name(image)
        credentials = await self._pulls.credentials(image, docker_config)
        while True:
            with contextlib.suppress(ConflictError):
                return await self._create(_service(name, image), credentials), True
            with contextlib.suppress(NotFoundError):  # another gateway's, which was just removed
                service = await self._services.inspect(name)
                is_over = _is_left_over(service, seconds)
                if not is_over and not await self._has_settled(service.id, _Seen()):
                    return service.id, False
                await self._services.remove(service.id)

    async def _create(self, spec: dict[str, object], credentials: Credentials) -> str:
        """Create a service; one that is made although this is cancelled is removed."""
        creating = self._tasks.begin(self._services.create(spec, credentials.header))
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            self._tasks.begin(self._remove_created(creating))
            raise

    async def _remove_created(self, creating: "asyncio.Task[str]") -> None:
        with contextlib.suppress(GatewayError):
            await self._services.remove(await creating)

    def _name(self, image: str) -> str:
        text = f"{self._live.current.cluster_id}\0{canonical_name(image)}"
        return f"enterprise-gateway-pull-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _can_be_pulled(image: str) -> bool:
    return is_image_name(image) and not is_in_no_registry(image)


def find_waiting(nodes: Iterable[Node], tasks: Iterable[Task]) -> list[Node]:
    """Return the nodes that have neither pulled the image nor failed to. Pure."""
    settled = {task.node_id for task in tasks if task.status.state not in _BEFORE_THE_IMAGE}
    return [node for node in nodes if node.id not in settled]


def find_done(tasks: Iterable[Task]) -> set[str]:
    """Return the ids of the nodes that have the image. Pure."""
    return {
        task.node_id
        for task in tasks
        if task.status.state not in (*_BEFORE_THE_IMAGE, _WITHOUT_THE_IMAGE)
    }


def describe_failure(
    image: str, nodes: Iterable[Node], tasks: Iterable[Task], seconds: float
) -> str:
    """Return which nodes do not have the image, and why; "" if all have it. Pure."""
    nodes = list(nodes)
    tasks = list(tasks)
    settled = [task for task in tasks if task.status.state not in _BEFORE_THE_IMAGE]
    done = find_done(tasks)
    # Swarm tries again by itself, so a node may have several
    reasons = {task.node_id: task.status.err or task.status.message for task in settled}
    without = [
        f"{node.description.hostname or node.id}: "
        f"{reasons.get(node.id, f'not within {seconds:g} s')}"
        for node in nodes
        if node.id not in done
    ]
    if not without:
        return ""
    return (
        f"The image {image} was not pulled by {len(without)} of {len(nodes)} nodes: "
        f"{'; '.join(without)}. Nodes do not say what their registry answered: docker pull on such "
        "a node does."
    )


def _service(name: str, image: str) -> dict[str, object]:
    """Return the specification of a service whose tasks only need the image."""
    return {
        "Name": name,
        "Labels": {"app": "enterprise-gateway", "component": "image-pull"},
        "Mode": {"GlobalJob": {}},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": canonical_name(image),
                "Command": ["/bin/true"],
                "Healthcheck": {"Test": ["NONE"]},
            },
            "RestartPolicy": {"Condition": "none"},
        },
    }


def _is_left_over(service: Service, seconds: float) -> bool:
    return time.time() - service.created > seconds
