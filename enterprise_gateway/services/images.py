"""The images of the installed kernelspecs: which the engine has, and pulls ahead of any start."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace

from enterprise_gateway.errors import GatewayError, NotFoundError
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import KernelImage, LaunchRequest
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings, Settings
from enterprise_gateway.settings.parse import ALWAYS

_CONCURRENT_PULLS = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpecImage:
    """The image of one kernelspec."""

    kernelspec: str
    image: KernelImage | None
    """None if it is not known."""
    trouble: str = ""
    """Why it is not known or could not be pulled, "" if all is well."""


class KernelImages:
    """The images of all kernelspecs whose kernels run in containers."""

    def __init__(
        self, live: LiveSettings, proxies: ProxyRegistry, kernelspecs: Kernelspecs
    ) -> None:
        self._live = live
        self._proxies = proxies
        self._kernelspecs = kernelspecs
        self._tasks = BackgroundTasks()

    def start(self) -> None:
        """Begin to pull all images in the background, if the settings say so."""
        if self._live.current.docker.prepull_images:
            self._tasks.begin(self._prepull())

    async def close(self) -> None:
        """Stop waiting for pulls."""
        await self._tasks.cancel()

    async def all(self) -> list[SpecImage]:
        """Return the image of each kernelspec that has one, in the order of their names."""
        found = [await self._find(spec) for spec in await self._specs(())]
        return [each for each in found if each is not None]

    async def pull(
        self, kernelspecs: Iterable[str] = (), *, again: bool
    ) -> AsyncIterator[SpecImage]:
        """Have the images of kernelspecs pulled, and yield each when it is there or has failed.

        Args:
            kernelspecs: their names; none for all.
            again: whether to pull images that the engine has, too, and those of any policy.

        Raises:
            NotFoundError: there is no such kernelspec.
        """
        limit = asyncio.Semaphore(_CONCURRENT_PULLS)

        async def pulled(spec: Kernelspec) -> SpecImage | None:
            async with limit:
                return await self._pull(spec, again=again)

        specs = await self._specs(kernelspecs)
        tasks = [self._tasks.begin(pulled(spec)) for spec in specs]
        for done in asyncio.as_completed(tasks):
            image = await done
            if image is not None:
                yield image

    async def _prepull(self) -> None:
        async for each in self.pull(again=False):
            if each.trouble:
                _log.warning("Kernelspec %s has no image yet. %s", each.kernelspec, each.trouble)

    async def _specs(self, names: Iterable[str]) -> list[Kernelspec]:
        specs = await self._kernelspecs.all()
        wanted = [name.lower() for name in names] or sorted(specs)
        for name in wanted:
            if name not in specs:
                raise NotFoundError(f"Kernel spec {name} not found")
        return [specs[name] for name in wanted]

    async def _find(self, spec: Kernelspec) -> SpecImage | None:
        try:
            proxy = self._proxies.get(spec.proxy_class)
            image = await proxy.find_image(_request_for(spec, self._live.current))
        except GatewayError as exc:
            return SpecImage(spec.name, None, str(exc))
        return SpecImage(spec.name, image) if image is not None else None

    async def _pull(self, spec: Kernelspec, *, again: bool) -> SpecImage | None:
        request = _request_for(spec, self._live.current)
        if again:
            request = replace(request, config={**request.config, "pull_policy": ALWAYS})
        trouble = ""
        try:
            await self._proxies.get(spec.proxy_class).pull_image(request)
        except GatewayError as exc:
            trouble = str(exc)
        found = await self._find(spec)
        return replace(found, trouble=found.trouble or trouble) if found is not None else None


def _request_for(spec: Kernelspec, settings: Settings) -> LaunchRequest:
    """Return a request for a kernel of a kernelspec that will not be launched.

    It waits for pulls until these have ended.
    """
    return LaunchRequest(
        kernel_id=str(uuid.uuid4()),
        kernel_name=spec.name,
        username=settings.kernels.default_username,
        argv=(),
        env=spec.spec.env,
        resource_dir="",
        config=spec.proxy_config,
        agent_settings={},
        agent_token="",
        timeout=2 * settings.docker.pull_timeout,
    )
