"""What becomes of launches for pools."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import msgspec
import pytest
from harness.proxies.own_proxy import OwnProcessProxy
from harness.waiting import eventually
from prometheus_client import generate_latest

from enterprise_gateway.errors import GatewayError, LaunchError
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.kernels.agents.state import (
    AgentState,
    ExecutionState,
    ExitReason,
)
from enterprise_gateway.services.kernels.pools.pool import Pool, plan_pool
from enterprise_gateway.services.kernels.pools.pools import Pools
from enterprise_gateway.services.kernels.pools.trouble import MAX_FAILURES
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernels.starts import pool_launches
from enterprise_gateway.services.kernels.starts.attempts import Attempt
from enterprise_gateway.services.kernels.starts.pool_launches import PoolLaunches
from enterprise_gateway.services.kernels.starts.starter import Starter
from enterprise_gateway.services.kernelspecs.kernelspec import parse_kernelspec
from enterprise_gateway.services.processproxies.contract import (
    POOL_USERNAME,
    BaseProcessProxyABC,
    KernelImage,
    LaunchRequest,
    Workload,
    WorkloadState,
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
        news: what its engine tells of kernels.
    """

    def __init__(self, settings: LiveSettings) -> None:
        super().__init__(settings)
        self.pulled = asyncio.Event()
        self.is_present = True
        self.news: asyncio.Queue[Workload] = asyncio.Queue()

    async def watch(self) -> AsyncIterator[Workload]:
        """See the base class."""
        while True:
            yield await self.news.get()

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
    """Launches kernels of which the registry is told, unless the test has an error.

    Attributes:
        launched: the kernels, or None for each launch that failed, by the pool's key.
        error: why launches fail.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.launched: list[tuple[str, Record | None]] = []
        self.error: GatewayError | None = None

    async def launch_for_pool(
        self, proxy: BaseProcessProxyABC, launch: LaunchRequest, attempt: Attempt
    ) -> Record:
        """See `Starter`."""
        attempt.steps.begin(Step.QUEUE)
        if self.error is not None:
            self.launched.append((launch.pool, None))
            raise self.error
        name = f"{POOL_USERNAME}-{launch.kernel_id}"
        workload = Workload(
            launch.kernel_id,
            name,
            POOL_USERNAME,
            WorkloadState.RUNNING,
            float(len(self.launched)),
            pool=launch.pool,
        )
        record = self._registry.add(proxy, workload, launch)
        self.launched.append((launch.pool, record))
        return record


class Gateway:
    """The launches for pools of one gateway.

    Attributes:
        images: how often an image has come.
    """

    def __init__(self, live: LiveSettings, proxies: ProxyRegistry, registry: Registry) -> None:
        self._registry = registry
        self.launcher = Launcher(registry)
        self.images = 0
        self.pools = Pools(live, registry, BackgroundTasks())
        self.pools.current = {SPEC.name: POOL}
        starter = cast("Starter", self.launcher)
        self.launches = PoolLaunches(
            live, proxies, registry, self.pools, starter, self._count_image
        )
        self.proxy = cast("PullingProxy", proxies.get(SPEC.proxy_class))
        registry.follow(self.proxy)

    def _count_image(self) -> None:
        self.images += 1

    @property
    def pools_launched_for(self) -> list[str]:
        """The keys of the pools of all launches."""
        return [key for key, _ in self.launcher.launched]

    async def run(self, pool: Pool) -> None:
        """Launch a kernel for a pool, to the end."""
        self.launches.begin(pool)
        await eventually(lambda: not self.launches.under_way)

    async def end(self, exit_reason: str, reason: ExitReason | None = None) -> None:
        """Launch a kernel that ends then, for the reason that its engine tells.

        Args:
            exit_reason: of the workload.
            reason: why it had no process any more, as its agent has said before.
        """
        await self.run(POOL)
        record = self.launcher.launched[-1][1]
        assert record is not None
        if reason is not None:
            now = datetime.now(UTC).isoformat()
            state = AgentState(record.kernel_id, ExecutionState.DEAD, now, reason=reason)
            record.apply_state(state)
        dead = replace(record.workload, state=WorkloadState.DEAD, exit_reason=exit_reason)
        self.proxy.news.put_nowait(dead)
        await eventually(record.is_over.is_set)
        for _ in range(5):  # whatever follows from that
            await asyncio.sleep(0)

    def metric(self, name: str, labels: str) -> float:
        """Return a metric."""
        page = generate_latest(self._registry.metrics.registry).decode()
        found = re.search(rf"^{name}{{{labels}}} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found is not None else 0.0

    @property
    def failures(self) -> int:
        """How often in a row the pool has failed."""
        trouble = self.pools.troubles.get(POOL.key)
        return trouble.failures if trouble is not None else 0


@asynccontextmanager
async def gateway() -> AsyncIterator[Gateway]:
    """Run the launches of a gateway."""
    live = LiveSettings(SETTINGS)
    proxies = ProxyRegistry(live)
    registry = Registry(live, proxies, EventBus())
    made = Gateway(live, proxies, registry)
    try:
        yield made
    finally:
        await made.launches.close()
        await registry.close()
        await proxies.close()


async def test_image_is_there_before_the_first_kernel() -> None:
    """Which would be in the pool of no image, and be ended for that of its image."""
    async with gateway() as made:
        made.proxy.pulled.set()
        await made.run(replace(POOL, lacks_image=True))
        assert (made.pools_launched_for, made.images) == ([], 1)
        known = replace(POOL, image_id="id")
        await made.run(known)
        assert (made.pools_launched_for, made.images) == ([known.key], 1)


async def test_image_that_is_in_no_registry_fails_the_launch() -> None:
    """Its pull is no error; the error of a launch says what to do, and there is no next pull."""
    async with gateway() as made:
        made.proxy.pulled.set()
        made.proxy.is_present = False
        made.launcher.error = LaunchError("There is no such image.")
        await made.run(replace(POOL, lacks_image=True))
        assert (made.pools_launched_for, made.images) == ([POOL.key], 0)
        assert not made.launches.may_try(POOL.key, asyncio.get_running_loop().time())


async def test_launch_that_waits_for_an_image_holds_up_its_own_pool_only() -> None:
    """A pull may take many minutes."""
    async with gateway() as made:
        made.launches.begin(replace(POOL, lacks_image=True))
        await eventually(lambda: made.launches.launching == 0)
        assert dict(made.launches.under_way) == {POOL.key: 1}


@pytest.mark.parametrize(
    ("exit_reason", "failures"),
    [("exit code 1", 1), ("", 1), ("exit code 0", 0), ("exit code 143", 0)],
)
async def test_kernel_that_dies_when_it_was_ready_is_a_failure(
    exit_reason: str, failures: int
) -> None:
    """Or the next would be launched at once, for ever; those that are told to end are none."""
    async with gateway() as made:
        await made.end(exit_reason)
        assert made.failures == failures


async def test_kernel_that_is_dead_beside_its_agent_is_a_failure() -> None:
    """Gateways end such kernels, which is no death on request."""
    async with gateway() as made:
        await made.end("exit code 0", ExitReason("killed by SIGKILL"))
        assert made.failures == 1


async def test_pool_that_is_given_up_is_shown() -> None:
    """A launch that is ready does not end its troubles before it has lived for a while."""
    async with gateway() as made:
        labels = 'kernel_name="py"'
        for failures in range(1, MAX_FAILURES + 1):
            assert made.metric("eg_pool_given_up", labels) == 0
            await made.end("exit code 1")
            assert made.failures == failures
            made.pools.troubles[POOL.key].next_try = 0.0
        assert made.metric("eg_pool_given_up", labels) == 1


async def test_launch_that_fails_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """In one line that says in which step, and by a metric of its own: no user's start failed."""
    async with gateway() as made:
        made.launcher.error = LaunchError("No\nmemory.")
        await made.run(POOL)
        labels = 'error="LaunchError",kernel_name="py"'
        assert made.metric("eg_pool_launch_failures_total", labels) == 1
    (line,) = [record.getMessage() for record in caplog.records if "pool" in record.getMessage()]
    assert "pool of kernelspec py could not be filled" in line
    assert re.search(r"failed in step queue after .* s: admission .*: No memory\.$", line)


async def test_kernel_that_lives_ends_the_troubles_of_its_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it was has passed."""
    async with gateway() as made:
        await made.end("exit code 1")
        assert made.failures == 1
        monkeypatch.setattr(pool_launches, "PROOF_SECONDS", 0.0)
        await made.run(POOL)
        await eventually(lambda: not made.pools.troubles)


async def test_kernel_of_a_pool_that_has_ceased_to_be_is_ended() -> None:
    """As when the kernelspec has changed while it was launched."""
    async with gateway() as made:
        made.pools.current = {}
        await made.run(POOL)
        record = made.launcher.launched[0][1]
        assert record is not None
        assert record.is_over.is_set()
