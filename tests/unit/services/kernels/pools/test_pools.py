"""How long a start tries to take a kernel from a pool, and how many it tries."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from enterprise_gateway.errors import ConflictError, GatewayError, LaunchError, UnavailableError
from enterprise_gateway.services.kernels.agents.agent import Agent
from enterprise_gateway.services.kernels.agents.state import AgentState, ExecutionState
from enterprise_gateway.services.kernels.planning.launches import StartRequest, plan_launch
from enterprise_gateway.services.kernels.pools.pool import plan_pool
from enterprise_gateway.services.kernels.pools.pools import Pools
from enterprise_gateway.services.kernels.pools.upcoming import UpcomingKernels
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernelspecs.kernelspec import parse_kernelspec
from enterprise_gateway.services.processproxies.contract import (
    POOL_USERNAME,
    AgentEndpoint,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.steps import Step, StepRecorder
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import KernelSettings, LiveSettings, Settings

SETTINGS = Settings(kernels=KernelSettings(client_envs=frozenset({"TZ"})), cluster_secret=b"s" * 32)
SPEC = parse_kernelspec(
    "py",
    Path("/specs/py"),
    msgspec.json.encode(
        {
            "argv": ["launch"],
            "display_name": "Py",
            "language": "python",
            "metadata": {"process_proxy": {"class_name": "site.Proxy"}},
        }
    ),
    (),
)
POOL = plan_pool(SPEC, SETTINGS, size=2)


class PooledAgent(Agent):
    """An agent that answers as the test says.

    Attributes:
        error: with which it refuses to be taken; None: it is silent.
        asked: how often it was to be taken.
    """

    def __init__(self, kernel_id: str) -> None:
        super().__init__(kernel_id, AgentEndpoint("127.0.0.1", 1), "token")
        self.error: GatewayError | None = None
        self.asked = 0

    async def take(self, takeover: object, seconds: float) -> AgentState:
        """See the base class."""
        del takeover
        self.asked += 1
        if self.error is not None:
            raise self.error
        await asyncio.sleep(seconds * 100)
        raise AssertionError


def make_record(kernel_id: str, created: float, notice: str | None = "") -> Record:
    """Return a kernel that waits in the pool."""
    name = f"{POOL_USERNAME}-{kernel_id}"
    state = WorkloadState.RUNNING
    workload = Workload(kernel_id, name, POOL_USERNAME, state, created, pool=POOL.key)
    record = Record(cast("Any", None), workload)  # no engine is asked
    record.attach(PooledAgent(kernel_id))
    record.apply_state(
        AgentState(
            kernel_id,
            ExecutionState.IDLE,
            "2026-01-02T03:04:05.678901Z",
            pooled=True,
            claimed=False,
            notice=notice,
        )
    )
    record.is_silent.clear()
    assert record.is_takeable
    return record


class Kernels:
    """A registry that knows some kernels, and notes which of them are ended."""

    def __init__(self, *records: Record) -> None:
        self._records = records
        self.metrics = SimpleNamespace(registry=CollectorRegistry())
        self.ended: list[str] = []

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    async def end(self, record: Record, seconds: float) -> None:
        """End a kernel."""
        del seconds
        self.ended.append(record.kernel_id)


def agent_of(record: Record) -> PooledAgent:
    """Return the agent of a kernel."""
    assert isinstance(record.agent, PooledAgent)
    return record.agent


UPCOMING: dict[str, Record] = {}
"""The kernel that is nearly ready, as `record`, if there is one."""


async def take(kernels: Kernels, seconds: float = 60.0, **env: str) -> Record | None:
    """Start a kernel that may take so many seconds, as far as the pool goes."""
    tasks = BackgroundTasks()
    pools = Pools(LiveSettings(SETTINGS), cast("Registry", kernels), tasks)
    launch = plan_launch(StartRequest(env=dict(env)), SPEC, SETTINGS)
    with pools.upcoming.launching(POOL) as coming:  # half of the usual time is over: it is near
        coming.began -= 6.0
        pools.upcoming.note("py", 10.0)
        coming.record = UPCOMING.get("record")
        coming.end()
        taken = await pools.take(POOL, SPEC, replace(launch, timeout=seconds))
    await tasks.finish()
    return taken


@pytest.mark.parametrize("error", [LaunchError("no"), UnavailableError("silent")])
async def test_kernel_that_failed_is_the_last_that_is_tried(
    monkeypatch: pytest.MonkeyPatch, error: GatewayError
) -> None:
    """What was wrong with it, as with a wrong PYTHONHOME, would end the next kernel, too."""
    first, second, coming = (make_record(name, float(n)) for n, name in enumerate("abc"))
    monkeypatch.setitem(UPCOMING, "record", coming)
    for record in (first, second, coming):
        agent_of(record).error = error
    kernels = Kernels(first, second)
    assert await take(kernels, TZ="UTC") is None
    assert [agent_of(record).asked for record in (first, second, coming)] == [1, 0, 0]
    assert kernels.ended == (["a"] if isinstance(error, LaunchError) else [])


async def test_kernel_that_another_gateway_takes_is_not_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next is tried, and then the one that is nearly ready."""
    first, second, coming = (make_record(name, float(n)) for n, name in enumerate("abc"))
    monkeypatch.setitem(UPCOMING, "record", coming)
    for record in (first, second, coming):
        agent_of(record).error = ConflictError("faster")
    assert await take(Kernels(first, second)) is None
    assert [agent_of(record).asked for record in (first, second, coming)] == [1, 1, 1]


async def test_launch_of_a_former_pool_is_not_waited_for() -> None:
    """Its kernelspec, settings or image were others, so its kernel is not what is asked for."""
    upcoming = UpcomingKernels()
    upcoming.note("py", 10.0)
    record = make_record("a", 1.0)
    with upcoming.launching(POOL) as launch:
        launch.began -= 6.0
        launch.record = record
        launch.end()
        assert await upcoming.next_ready(replace(POOL, image_id="sha256:1")) is None
        assert await upcoming.next_ready(POOL) is record


async def test_launch_that_waits_for_its_turn_is_not_waited_for() -> None:
    """It may take any time; what it takes from then on is what launches usually take."""
    upcoming = UpcomingKernels()
    upcoming.note("py", 10.0)
    now = asyncio.get_running_loop().time()
    times = iter([now - 100.0, now - 100.0, now - 6.0])
    steps = StepRecorder(lambda: next(times))
    steps.begin(Step.QUEUE)
    with upcoming.launching(POOL, steps) as launch:
        launch.record = make_record("a", 1.0)
        launch.end()
        assert await upcoming.next_ready(POOL) is None
        steps.begin(Step.PREPARE)
        assert await upcoming.next_ready(POOL) is launch.record


async def test_pool_takes_a_part_of_a_starts_time() -> None:
    """However slow its agents are: there must be time left for an ordinary start."""
    record = make_record("a", 1.0)
    async with asyncio.timeout(20.0):
        assert await take(Kernels(record), seconds=0.1) is None
    assert agent_of(record).asked == 1


async def test_older_agent_is_asked_for_no_other_process() -> None:
    """It would not know the word, and set the variables in the running one."""
    older, newer = make_record("a", 1.0, notice=None), make_record("b", 2.0)
    for record in (older, newer):
        agent_of(record).error = UnavailableError("silent")
    assert await take(Kernels(older, newer), TZ="UTC") is None
    assert [agent_of(record).asked for record in (older, newer)] == [0, 1]
    assert await take(Kernels(older, newer)) is None
    assert agent_of(older).asked == 1
