"""What becomes of launches for pools."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
from harness.proxies.own_proxy import OwnProcessProxy
from harness.waiting import eventually

from enterprise_gateway.errors import GatewayError, LaunchError
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.kernels.pools.pool import Pool, plan_pool
from enterprise_gateway.services.kernels.pools.pools import Pools
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernels.starts.attempts import Attempt
from enterprise_gateway.services.kernels.starts.pool_launches import PoolLaunches
from enterprise_gateway.services.kernels.starts.starter import Starter
from enterprise_gateway.services.kernelspecs.kernelspec import parse_kernelspec
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    KernelImage,
    LaunchRequest,
)
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.services.processproxies.steps import Step
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings, Settings


class PullingProxy(OwnProcessProxy):
    """Has an image once it was pulled, which takes until the test says so.

    Attributes:
        pulled: set by the test.
        is_present: whether there is an image then.
    """

    def __init__(self, settings: LiveSettings) -> None:
        super().__init__(settings)
        self.pulled = asyncio.Event()
        self.is_present = True

    async def prepare(self, request: LaunchRequest) -> None:
        """See the base class."""
        request.steps.begin(Step.PULL)
        await self.pulled.wait()

    async def find_image(self, request: LaunchRequest) -> KernelImage:
        """See the base class."""
        del request
        is_present = self.is_present and self.pulled.is_set()
        return KernelImage("image", is_present, "IfNotPresent", "id" if is_present else "")


CONTENT = {
    "argv": ["launch"],
    "display_name": "Py",
    "language": "python",
    "metadata": {"process_proxy": {"class_name": f"{__name__}.PullingProxy"}},
}
SETTINGS = Settings(cluster_secret=b"s" * 32)
SPEC = parse_kernelspec("py", Path("/specs/py"), msgspec.json.encode(CONTENT), ())
POOL = plan_pool(SPEC, SETTINGS, size=2)


class Launcher:
    """Launches nothing: each launch fails as the test says.

    Attributes:
        launched: the keys of the pools of all launches.
        error: why they fail.
    """

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.error: GatewayError = LaunchError("It was in vain.")

    async def launch_for_pool(
        self, proxy: BaseProcessProxyABC, launch: LaunchRequest, attempt: Attempt
    ) -> Record:
        """See `Starter`."""
        del proxy
        attempt.steps.begin(Step.QUEUE)
        self.launched.append(launch.pool)
        await asyncio.sleep(0)
        raise self.error


class Gateway:
    """The launches for pools of one gateway.

    Attributes:
        images: how often an image has come.
    """

    def __init__(self) -> None:
        live = LiveSettings(SETTINGS)
        proxies = ProxyRegistry(live)
        self.launcher = Launcher()
        self.images = 0
        self.pools = Pools(live, Registry(live, proxies, EventBus()), BackgroundTasks())
        self.pools.current = {SPEC.name: POOL}
        starter = cast("Starter", self.launcher)
        self.launches = PoolLaunches(live, proxies, self.pools, starter, self._count_image)
        self.proxy = cast("PullingProxy", proxies.get(SPEC.proxy_class))

    def _count_image(self) -> None:
        self.images += 1

    async def run(self, pool: Pool) -> None:
        """Launch a kernel for a pool, to the end."""
        self.launches.begin(pool)
        await eventually(lambda: not self.launches.under_way)

    async def settle(self) -> None:
        """Let all launches do what they can."""
        for _ in range(10):
            await asyncio.sleep(0)


async def test_image_is_there_before_the_first_kernel() -> None:
    """Which would be in the pool of no image, and be ended for that of its image."""
    gateway = Gateway()
    gateway.proxy.pulled.set()
    await gateway.run(replace(POOL, lacks_image=True))
    assert (gateway.launcher.launched, gateway.images) == ([], 1)
    known = replace(POOL, image_id="id")
    await gateway.run(known)
    assert (gateway.launcher.launched, gateway.images) == ([known.key], 1)


async def test_image_that_is_in_no_registry_fails_the_launch() -> None:
    """Its pull is no error; the error of a launch says what to do, and there is no next pull."""
    gateway = Gateway()
    gateway.proxy.pulled.set()
    gateway.proxy.is_present = False
    await gateway.run(replace(POOL, lacks_image=True))
    assert (gateway.launcher.launched, gateway.images) == ([POOL.key], 0)
    loop = asyncio.get_running_loop()
    assert not gateway.launches.may_try(POOL.key, loop.time())


async def test_launches_that_wait_for_an_image_hold_up_their_own_pool_only() -> None:
    """A pull may take many minutes."""
    gateway = Gateway()
    gateway.launches.begin(replace(POOL, lacks_image=True))
    await gateway.settle()
    assert (gateway.launches.launching, dict(gateway.launches.under_way)) == (0, {POOL.key: 1})
    await gateway.launches.close()
    assert not gateway.launches.under_way
