"""The pulls of images: one for all kernels that wait for the same image.

A pull belongs to the gateway and not to the request that began it: a request that gives up leaves
it going on. If the gateway ends, the engine gives the pull up, since the connection of its request
is closed.
"""

import asyncio
import logging
import time
from contextlib import aclosing
from pathlib import Path

from enterprise_gateway.errors import (
    GatewayError,
    LaunchError,
    PreparingError,
    UnavailableError,
)
from enterprise_gateway.services.processproxies.contract import ImagePull
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.engine.images import (
    DockerImages,
    canonical_name,
    is_image_name,
    is_in_no_registry,
    registry_of,
)
from enterprise_gateway.services.processproxies.pulls.credentials import (
    Credentials,
    find_credentials,
)
from enterprise_gateway.services.processproxies.pulls.failures import is_refusal, is_transient
from enterprise_gateway.services.processproxies.pulls.progress import (
    PullProgress,
    describe_pull,
    format_bytes,
)
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.settings.parse import ALWAYS, NEVER

MAX_PULLS = 16
"""How many pulls may be under way: users may name any image, and leave."""
_RETRIES = 3
_LOG_SECONDS = 30.0

_log = logging.getLogger(__name__)


class _Pull:
    """One pull under way."""

    def __init__(self, image: str, folder: Path) -> None:
        self.image = image
        self.folder = folder
        self.begun = time.monotonic()
        self.progress = PullProgress(image)
        self.trouble = ""
        """Why it was begun anew, "" if it was not."""

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.begun

    @property
    def state(self) -> ImagePull:
        """How far it has come."""
        return self.progress.state(time.monotonic())

    def describe(self) -> str:
        """Return how far it has come, in words."""
        trouble = f" (begun anew: {self.trouble})" if self.trouble else ""
        return f"{describe_pull(self.state)}{trouble}"


class Pulls:
    """Has the engine pull images."""

    def __init__(self, live: LiveSettings, engine: DockerEngine) -> None:
        self._live = live
        self._images = DockerImages(engine)
        self._tasks = BackgroundTasks()
        self._under_way: dict[tuple[str, Path], tuple[_Pull, asyncio.Task[None]]] = {}

    async def provide(self, image: str, policy: str, docker_config: str, patience: float) -> None:
        """Wait until the engine has an image, which is pulled if the policy says so.

        An image that cannot be pulled because no registry has it is left to the launch script, and
        so is a text that is not the name of one.

        Args:
            image: its name.
            policy: one of `PULL_POLICIES`.
            docker_config: the folder with the credentials, "" for the gateway's own.
            patience: how many seconds to wait. The pull itself has a deadline of its own.

        Raises:
            PreparingError: it is still being pulled.
            LaunchError: it cannot be pulled.
            UnavailableError: the engine does not answer.
        """
        if not is_image_name(image) or is_in_no_registry(image):
            return
        if policy != ALWAYS and await self.find(image):
            return
        if policy == NEVER:
            raise LaunchError(
                f"The image {image} is not on this engine, and is not pulled (pull_policy is "
                f"{NEVER})."
            )
        await self.pull(image, docker_config, patience)

    async def pull(
        self, image: str, docker_config: str = "", patience: float | None = None
    ) -> None:
        """Pull an image, also one that the engine has; see `provide`.

        Cancelling this leaves the pull going on.
        """
        if is_in_no_registry(image):
            raise LaunchError(f"The image {image} is in no registry: it is built or loaded.")
        pull, task = self._begin(image, docker_config)
        try:
            async with asyncio.timeout(patience):
                await asyncio.shield(task)
        except TimeoutError as exc:
            raise PreparingError(
                f"The image {image} is being pulled: {pull.describe()}. The pull goes on; try "
                "again."
            ) from exc
        except LaunchError as exc:
            raise LaunchError(str(exc)) from exc  # each waiter has an error of its own
        except UnavailableError as exc:
            raise UnavailableError(str(exc)) from exc

    async def credentials(self, image: str, docker_config: str = "") -> Credentials:
        """Return what the gateway has for the registry of an image."""
        _, folder = self._key(image, docker_config)
        return await find_credentials(registry_of(image), folder)

    async def find(self, image: str) -> str:
        """Return the id of an image, "" if the engine does not have it or it is no image name."""
        return await self._images.identify(image) if is_image_name(image) else ""

    def state(self, image: str, docker_config: str = "") -> ImagePull | None:
        """Return how far the pull of an image has come, None if it is not being pulled."""
        found = self._under_way.get(self._key(image, docker_config))
        return found[0].state if found is not None else None

    async def close(self) -> None:
        """Give up the pulls under way."""
        for pull, _ in self._under_way.values():
            _log.warning("The pull of %s ends with this gateway: %s", pull.image, pull.describe())
        await self._tasks.cancel()

    def _key(self, image: str, docker_config: str) -> tuple[str, Path]:
        settings = self._live.current
        stated = docker_config or settings.docker.launch_env.get("DOCKER_CONFIG", "")
        return canonical_name(image), Path(stated or settings.host.home / ".docker")

    def _begin(self, image: str, docker_config: str) -> tuple[_Pull, asyncio.Task[None]]:
        """Return the pull of an image, which is begun unless it is under way."""
        key = self._key(image, docker_config)
        if key not in self._under_way:
            if len(self._under_way) >= MAX_PULLS:
                raise UnavailableError(
                    f"The image {image} must be pulled, but {MAX_PULLS} others are being pulled "
                    "now. Try again."
                )
            pull = _Pull(image, key[1])
            task = self._tasks.begin(self._run(pull))
            self._under_way[key] = pull, task
            task.add_done_callback(lambda done: self._end(key, done))
        return self._under_way[key]

    def _end(self, key: tuple[str, Path], task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, GatewayError):  # which has been logged
            _log.error("The pull of %s failed", key[0], exc_info=error)

    async def _run(self, pull: _Pull) -> None:
        """Pull an image, and log the outcome."""
        _log.info("Image %s: the pull has begun", pull.image)
        seconds = self._live.current.docker.pull_timeout
        try:
            async with asyncio.timeout(seconds):
                await self._persist(pull)
        except TimeoutError as exc:
            failure = f"was not pulled within {seconds:g} s (EG_PULL_TIMEOUT): {pull.describe()}."
            _log.warning("The image %s %s", pull.image, failure)
            raise LaunchError(f"The image {pull.image} {failure}") from exc
        except GatewayError as exc:
            _log.warning("%s", exc)
            raise
        size = format_bytes(pull.state.bytes_done)
        _log.info("Image %s: pulled in %.1f s, %s", pull.image, pull.seconds, size)

    async def _persist(self, pull: _Pull) -> None:
        """Pull an image, again if the network breaks the pull.

        Raises:
            LaunchError: it cannot be pulled.
            UnavailableError: the engine does not answer.
        """
        credentials = await self.credentials(pull.image, str(pull.folder))
        pause = self._live.current.delays.pull_retry_seconds
        for retries_left in reversed(range(_RETRIES + 1)):
            try:
                await self._attempt(pull, credentials)
            except GatewayError as exc:
                words = str(exc)
                is_away = isinstance(exc, UnavailableError)
                if not retries_left and is_away:
                    raise UnavailableError(f"The image {pull.image} is not here. {words}") from exc
                if not retries_left or not (is_away or is_transient(words)):
                    raise LaunchError(_explain(pull, words, credentials)) from exc
                _log.warning("Image %s: the pull is begun anew: %s", pull.image, words)
                pull.trouble = words
            else:
                return
            await asyncio.sleep(pause)
            pause *= 2

    async def _attempt(self, pull: _Pull, credentials: Credentials) -> None:
        pull.progress = PullProgress(pull.image)
        logged = time.monotonic()
        async with aclosing(self._images.pull(pull.image, credentials.header)) as messages:
            async for message in messages:
                now = time.monotonic()
                pull.progress.add(message, now)
                if now - logged >= _LOG_SECONDS:
                    logged = now
                    _log.info("Image %s is being pulled: %s", pull.image, pull.describe())


def _explain(pull: _Pull, words: str, credentials: Credentials) -> str:
    """Return why an image cannot be pulled, and what to do."""
    advice = credentials.obstacle
    if is_refusal(words) and not advice:
        file = pull.folder / "config.json"
        advice = (
            f"The registry was asked with the credentials of {credentials.source}."
            if credentials.source
            else f"{file} has no credentials for {registry_of(pull.image)} (docker login as the "
            "gateway's user, or DOCKER_CONFIG)."
        )
    return f"The image {pull.image} cannot be pulled: {words.strip()} {advice}".rstrip()
