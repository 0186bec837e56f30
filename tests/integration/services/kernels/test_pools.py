"""Pools of local kernels: ready before a user asks, and that user's from the first cell on."""

import asyncio
import dataclasses
import json
import re
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.gateways.service import Answer, Service, is_state, serve_settings, state_of
from harness.waiting import eventually

from enterprise_gateway.errors import ConflictError, NotFoundError
from enterprise_gateway.services.composition import GatewayServices
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.kernels.planning.launches import (
    StartRequest,
    plan_launch,
    with_kernel_id,
)
from enterprise_gateway.services.kernels.pools.pool import Pool, plan_pool
from enterprise_gateway.services.kernels.pools.pools import Pools
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernels.starts.attempts import Attempt
from enterprise_gateway.services.kernels.starts.starter import Starter
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import POOL_USERNAME
from enterprise_gateway.services.processproxies.registry import (
    LOCAL_PROCESS_PROXY,
    ProxyRegistry,
)
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import EventSettings, LiveSettings, ResourceSettings
from enterprise_gateway.settings.values.schedule import ScheduledSize
from enterprise_gateway.settings.values.times import Times

pytestmark = pytest.mark.kernel

KERNEL = "python3"
DEADLINE = 120.0
NONE_READY = "an image of which no kernel is ready"
SHOW = """
import json, os
print(json.dumps([os.environ["KERNEL_USERNAME"], os.environ.get("PROJECT"), os.getcwd()]))
"""


def resize(live: LiveSettings, size: int, name: str = KERNEL, **kernels: Any) -> None:
    """Have gateways keep so many kernels ready."""
    changed = dataclasses.replace(live.current.kernels, pool_sizes=((name, size),), **kernels)
    live.replace(dataclasses.replace(live.current, kernels=changed))


async def metric(service: Service, name: str) -> float:
    """Return the sum of a metric over its labels."""
    text = (await service.ask("GET", "/metrics")).raw.decode()
    return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))


async def until_ready(service: Service, count: int) -> None:
    """Wait until so many kernels wait in the pool."""

    async def is_ready() -> bool:
        return await metric(service, "eg_pool_ready") == count

    await eventually(is_ready, deadline=DEADLINE)


@asynccontextmanager
async def pooling(live: LiveSettings, size: int, **kernels: Any) -> AsyncIterator[Service]:
    """Serve a gateway with a pool; at the end nothing is left of either."""
    resize(live, size, **kernels)
    async with serve_settings(live) as service:
        try:
            await until_ready(service, size)
            yield service
        finally:
            for model in await service.get("/api/kernels"):
                await service.ask("DELETE", f"/api/kernels/{model['id']}")
            resize(live, 0)
            records = live.current.runtime_dir
            await eventually(lambda: not list(records.glob("*.kernel")), deadline=DEADLINE)


async def start(service: Service, name: str = KERNEL, **env: str) -> Answer:
    """Start a kernel of the pool's kernelspec."""
    return await service.ask("POST", "/api/kernels", json={"name": name, "env": env})


def is_warm(answer: Answer) -> bool:
    """Say whether a start took a kernel from the pool."""
    return answer.status == 201 and set(answer.body["start"]["steps"]) == {"admission", "pool"}


async def run(service: Service, kernel_id: str, code: str) -> str:
    """Return what a cell prints."""
    answer = await service.ask(
        "POST",
        f"/api/kernels/{kernel_id}/execute",
        json={"code": code},
        headers={"Accept": "application/x-ndjson"},
    )
    messages = [json.loads(line) for line in answer.raw.splitlines() if line]
    return "".join(
        message["content"]["text"] for message in messages if message.get("msg_type") == "stream"
    )


class Replica:
    """What launches kernels and takes them from pools, of a gateway of its own."""

    def __init__(self, live: LiveSettings) -> None:
        tasks = BackgroundTasks()
        self.live = live
        self.proxies = ProxyRegistry(live)
        self.kernelspecs = Kernelspecs(live, self.proxies)
        self.registry = Registry(live, self.proxies, EventBus())
        self.pools = Pools(live, self.registry, tasks)
        self.starter = Starter(
            live, self.proxies, self.kernelspecs, self.registry, self.pools, tasks
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Know what there is; at the end kernels go on."""
        await self.proxies.start()
        try:
            await self.registry.refresh_all()
            yield
        finally:
            await self.registry.close()
            await self.proxies.close()

    async def pool(self, image_id: str = "") -> Pool:
        """Return the pool that there should be now."""
        spec = await self.kernelspecs.get(KERNEL)
        return plan_pool(spec, self.live.current, image_id=image_id)

    async def fill(self) -> Record:
        """Launch a kernel for the pool."""
        pool, secret = await self.pool(), self.live.current.cluster_secret
        launch = with_kernel_id(pool.launch, str(uuid.uuid4()), secret)
        launch = dataclasses.replace(launch, pool=pool.key)
        attempt = Attempt(launch.kernel_id, launch.kernel_name, launch.username)
        proxy = self.proxies.get(pool.proxy_class)
        return await self.starter.launch_for_pool(proxy, launch, attempt)

    async def take(self, pool: Pool, user: str, **env: str) -> Record | None:
        """Take a kernel of a pool, or wait for one."""
        spec = await self.kernelspecs.get(KERNEL)
        start = StartRequest(env={"KERNEL_USERNAME": user, **env})
        return await self.pools.take(pool, spec, plan_launch(start, spec, self.live.current))


async def test_user_gets_a_kernel_that_was_ready(live: LiveSettings, tmp_path: Path) -> None:
    """With its own environment and folder, and its own name in the limits."""
    async with pooling(live, 1, client_envs=frozenset({"PROJECT"})) as service:
        assert await service.get("/api/kernels") == []
        folder = str(tmp_path)
        answer = await start(
            service, KERNEL_USERNAME="ann", PROJECT="$x 'y'", KERNEL_WORKING_DIR=folder
        )
        assert is_warm(answer), answer.raw
        kernel_id = answer.body["id"]
        assert [model["id"] for model in await service.get("/api/kernels")] == [kernel_id]
        expected = ["ann", "$x 'y'", folder]
        assert json.loads(await run(service, kernel_id, SHOW)) == expected
        assert (await service.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200
        assert json.loads(await run(service, kernel_id, SHOW)) == expected
        await until_ready(service, 1)


@pytest.mark.parametrize("name", ["MPLBACKEND", "TZ", "LC_ALL"])
async def test_variables_of_the_start_need_no_other_kernel(live: LiveSettings, name: str) -> None:
    """The process of the one that waits is replaced; it is no restart to its user."""
    async with pooling(live, 1, client_envs=frozenset({name})) as service:
        answer = await start(service, KERNEL_USERNAME="ann", **{name: "agg"})
        assert is_warm(answer), answer.raw
        kernel_id = answer.body["id"]
        code = f"import os; print(os.environ['{name}'], os.environ['KERNEL_USERNAME'])"
        assert await run(service, kernel_id, code) == "agg ann\n"
        model = await service.get(f"/api/kernels/{kernel_id}")
        assert set(model["start"]["steps"]) == {"admission", "pool"}
        assert await metric(service, "eg_kernel_restarts_total") == 0


async def test_variables_that_the_kernelspec_names_need_a_process(
    live: LiveSettings, tmp_path: Path
) -> None:
    """A running one has read them already."""
    config = {"pool_process_env": ["LICENSE_*"]}
    content = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python of a site",
        "language": "python",
        "metadata": {"process_proxy": {"class_name": LOCAL_PROCESS_PROXY, "config": config}},
    }
    add_kernelspec(live, tmp_path / "of_a_site", content)
    client_envs = frozenset({"LICENSE_KEY"})
    async with pooling(live, 1, name="of_a_site", client_envs=client_envs) as service:
        answer = await start(service, "of_a_site", KERNEL_USERNAME="ann", LICENSE_KEY="k")
        assert is_warm(answer), answer.raw
        code = "print(open('/proc/self/environ').read().count('LICENSE_KEY=k'))"
        assert await run(service, answer.body["id"], code) == "1\n"


OF_ANOTHER_LANGUAGE = """
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp


class Kernel(IPythonKernel):
    language_info = {**IPythonKernel.language_info, "name": "other"}


IPKernelApp.launch_instance(kernel_class=Kernel)
"""


@pytest.mark.parametrize("language", ["other", ""])
async def test_kernel_of_any_language_is_its_takers(
    live: LiveSettings, tmp_path: Path, language: str
) -> None:
    """Though an agent can tell only those of some languages whose they are while they run."""
    argv = [sys.executable, "-c", OF_ANOTHER_LANGUAGE, "-f", "{connection_file}"]
    content = {"argv": argv, "display_name": "Other", "language": language}
    add_kernelspec(live, tmp_path / "other", content)
    async with pooling(live, 1, name="other") as service:
        answer = await start(
            service, "other", KERNEL_USERNAME="ann", KERNEL_WORKING_DIR=str(tmp_path)
        )
        assert is_warm(answer), answer.raw
        shown = json.loads(await run(service, answer.body["id"], SHOW))
        assert shown == ["ann", None, str(tmp_path)]


def add_kernelspec(live: LiveSettings, folder: Path, content: Mapping[str, Any]) -> None:
    """Have gateways find a kernelspec in a folder of its name, besides the others."""
    folder.mkdir()
    (folder / "kernel.json").write_text(json.dumps(content))
    host = live.current.host
    folders = (*host.kernelspec_folders, folder.parent)
    changed = dataclasses.replace(host, kernelspec_folders=folders)
    live.replace(dataclasses.replace(live.current, host=changed))


async def test_process_that_cannot_begin_is_as_without_a_pool(live: LiveSettings) -> None:
    """The start goes on without the pool, with its own error; what was taken is gone."""
    async with pooling(live, 1, client_envs=frozenset({"PYTHONHOME"})) as service:
        (waiting,) = live.current.runtime_dir.glob("*.kernel")
        answer = await start(service, KERNEL_USERNAME="ann", PYTHONHOME="/nowhere")
        assert answer.status == 500
        assert "encodings" in answer.message
        await eventually(lambda: not waiting.exists())
        assert await service.get("/api/kernels") == []


async def test_metrics_tell_of_pools(live: LiveSettings) -> None:
    """Those that docs/operations.md has, with their labels."""
    async with pooling(live, 1) as service:
        assert is_warm(await start(service, KERNEL_USERNAME="ann"))
        page = (await service.ask("GET", "/metrics")).raw.decode()
    of_kernel = f'{{kernel_name="{KERNEL}"'
    assert f"eg_pool_size{of_kernel}}} 1.0" in page
    assert f"eg_pool_ready{of_kernel}}} " in page
    assert f'eg_pool_starts_total{of_kernel},outcome="taken"}} 1.0' in page
    assert f'eg_kernel_start_seconds_count{of_kernel},source="pool"}} 1.0' in page


async def test_kernels_in_pools_are_no_clients(live: LiveSettings) -> None:
    """Not listed, not found by their ids, not counted against any limit."""
    async with pooling(live, 2, max_kernels=1) as service:
        ids = {path.stem for path in live.current.runtime_dir.glob("*.kernel")}
        waiting = min(ids)
        for method, path in (
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/restart"),
            ("POST", "/interrupt"),
            ("POST", "/execute"),
        ):
            answer = await service.ask(method, f"/api/kernels/{waiting}{path}", json={"code": "1"})
            assert answer.status == 404, (method, path, answer.raw)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await service.http.ws_connect(f"/api/kernels/{waiting}/channels")
        first = await start(service, KERNEL_USERNAME="ann")
        assert is_warm(first)
        second = await start(service, KERNEL_USERNAME="bob")
        assert (second.status, "limit has been set to 1" in second.message) == (403, True)
        left = {path.stem for path in live.current.runtime_dir.glob("*.kernel")}
        assert ids <= left


async def test_users_name_is_not_that_of_pools(live: LiveSettings) -> None:
    """Its kernel would be taken for one that waits."""
    async with serve_settings(live) as service:
        answer = await start(service, KERNEL_USERNAME=POOL_USERNAME)
        assert (answer.status, POOL_USERNAME in answer.message) == (403, True)


@pytest.mark.parametrize(
    "env", [{"KERNEL_ID": "5c1a0000-1111-4222-8333-444455556666"}, {"KERNEL_MEMORY": "2g"}]
)
async def test_other_kernel_than_the_pools_is_launched(
    live: LiveSettings, env: dict[str, str]
) -> None:
    """What a running kernel cannot become is a cold start; the pool stays full."""
    async with pooling(live, 1) as service:
        answer = await start(service, KERNEL_USERNAME="ann", **env)
        assert (answer.status, is_warm(answer)) == (201, False)
        assert await metric(service, "eg_pool_ready") == 1


async def test_user_with_times_gets_a_kernel_that_has_them(live: LiveSettings) -> None:
    """Those in the pool have the kernelspec's; its own is culled when its user's time is over."""
    times = (("ann", Times(cull_idle_timeout=3)),)
    async with pooling(live, 1, resources=ResourceSettings(user_times=times)) as service:
        anns = await start(service, KERNEL_USERNAME="ann")
        assert (anns.status, is_warm(anns)) == (201, False)
        bobs = await start(service, KERNEL_USERNAME="bob")
        assert is_warm(bobs)
        await eventually(lambda: is_state(service, anns.body["id"], "gone"), deadline=DEADLINE)
        assert await state_of(service, bobs.body["id"]) == "idle"


async def test_burst_takes_each_kernel_once(live: LiveSettings) -> None:
    """More starts than kernels: each user has one of its own, the rest are cold."""
    async with pooling(live, 3) as service:
        answers = await asyncio.gather(
            *(start(service, KERNEL_USERNAME=f"u{number}") for number in range(5))
        )
        assert [answer.status for answer in answers] == [201] * 5
        assert len({answer.body["id"] for answer in answers}) == 5
        assert sum(map(is_warm, answers)) == 3
        users = [json.loads(await run(service, answer.body["id"], SHOW))[0] for answer in answers]
        assert users == [f"u{number}" for number in range(5)]


async def test_smaller_pool_ends_kernels(live: LiveSettings) -> None:
    """The youngest go; those of users stay."""
    async with pooling(live, 2) as service:
        taken = await start(service, KERNEL_USERNAME="ann")
        await until_ready(service, 2)
        resize(live, 1)
        await until_ready(service, 1)
        assert [model["id"] for model in await service.get("/api/kernels")] == [taken.body["id"]]


async def test_schedule_empties_a_pool(live: LiveSettings) -> None:
    """When its hours begin; the kernels of users stay."""
    async with pooling(live, 2) as service:
        taken = await start(service, KERNEL_USERNAME="ann")
        always = ScheduledSize(frozenset(range(7)), 0, 24 * 60, KERNEL, 0)
        resize(live, 2, pool_schedule=(always,))
        await until_ready(service, 0)
        records = live.current.runtime_dir
        await eventually(lambda: len(list(records.glob("*.kernel"))) == 1, deadline=DEADLINE)
        assert [model["id"] for model in await service.get("/api/kernels")] == [taken.body["id"]]


async def test_kernel_that_dies_in_its_pool_is_replaced(live: LiveSettings) -> None:
    """And is told of to no client."""
    async with pooling(live, 1) as service:
        (path,) = live.current.runtime_dir.glob("*.kernel")
        record = json.loads(path.read_bytes())
        await kill(record["process"]["pid"])
        await eventually(lambda: not path.exists())
        await until_ready(service, 1)
        assert await service.get("/api/kernels") == []
        assert await metric(service, "eg_pool_launch_failures_total") == 1


async def test_kernel_whose_agent_gives_it_up_is_replaced(live: LiveSettings) -> None:
    """It is not there for a start, and takes no place; its agent waits in vain for a restart."""
    async with pooling(live, 1, autorestart=False) as service:
        (path,) = live.current.runtime_dir.glob("*.kernel")
        agent = json.loads(path.read_bytes())["process"]["pid"]
        for pid in children_of(agent):
            await kill(pid)
        await eventually(lambda: not path.exists(), deadline=DEADLINE)
        await until_ready(service, 1)
        assert is_warm(await start(service, KERNEL_USERNAME="ann"))


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def kill(pid: int) -> None:
    """Kill a process."""
    process = await asyncio.create_subprocess_exec("kill", "-9", str(pid))
    assert await process.wait() == 0


async def test_pool_outlives_its_gateway(live: LiveSettings) -> None:
    """A later gateway gives its kernels to users."""
    resize(live, 1)
    async with serve_settings(live) as first:
        await until_ready(first, 1)
    (path,) = live.current.runtime_dir.glob("*.kernel")
    async with pooling(live, 1) as second:
        answer = await start(second, KERNEL_USERNAME="ann")
        assert (is_warm(answer), answer.body["id"]) == (True, path.stem)


async def test_operator_ends_kernels_in_pools(live: LiveSettings) -> None:
    """By the same call that ends all others; a client cannot."""
    async with pooling(live, 1):
        (path,) = live.current.runtime_dir.glob("*.kernel")
        services = GatewayServices(live)
        async with services.running():
            with pytest.raises(NotFoundError):
                await services.kernels.shutdown(path.stem)
            await services.kernels.shutdown(path.stem, is_operator=True)
        await eventually(lambda: not path.exists())


async def test_last_place_goes_to_one_user(live: LiveSettings) -> None:
    """Also if several ask for it at the same moment, and ready kernels are there for all."""
    async with pooling(live, 3, max_kernels=2) as service:
        assert is_warm(await start(service, KERNEL_USERNAME="ann"))
        answers = await asyncio.gather(
            *(start(service, KERNEL_USERNAME=f"u{number}") for number in range(2))
        )
        assert sorted(answer.status for answer in answers) == [201, 403]
        assert len(await service.get("/api/kernels")) == 2


async def test_events_of_a_start_have_the_id_that_it_has(
    live: LiveSettings, tmp_path: Path
) -> None:
    """A kernel of the pool's that it takes has its own, and `claimed` has both."""
    path = tmp_path / "events.jsonl"
    without_pool = LiveSettings(live.current)
    live.replace(dataclasses.replace(live.current, events=EventSettings(log=str(path))))
    async with pooling(live, 1, max_kernels=1) as service:
        taken = (await start(service, KERNEL_USERNAME="ann")).body["id"]
        requested, claimed = await events_of(path, "ann", "requested", "claimed")
        assert claimed["kernel_id"] == taken
        assert claimed["requested"] == requested["kernel_id"] != taken
        await service.ask("DELETE", f"/api/kernels/{taken}")
        await until_ready(service, 1)
        (waiting,) = live.current.runtime_dir.glob("*.kernel")
        # gateways are not told of each other's local kernels
        async with serve_settings(without_pool) as other:
            another = await other.start_kernel()
            assert (await start(service, KERNEL_USERNAME="carl")).status == 403
            await other.ask("DELETE", f"/api/kernels/{another}")
        assert not waiting.exists()
        requested, refused = await events_of(path, "carl", "requested", "refused")
        assert refused["kernel_id"] == requested["kernel_id"] != waiting.stem


async def events_of(path: Path, owner: str, *kinds: str) -> list[dict[str, Any]]:
    """Return a user's event of each kind from a file."""

    def found() -> dict[str, dict[str, Any]]:
        lines = path.read_text().splitlines() if path.exists() else []
        events = map(json.loads, lines)
        return {event["kind"]: event for event in events if event["owner"] == owner}

    await eventually(lambda: found().keys() >= set(kinds))
    return [found()[kind] for kind in kinds]


async def test_launch_that_is_given_up_ends_no_users_kernel(live: LiveSettings) -> None:
    """A gateway that stops over its pool's launch may find that another has given it away."""
    async with pooling(live, 2) as service:
        other = Replica(live)
        async with other.running():
            known = {record.kernel_id: record for record in other.registry}
            taken = (await start(service, KERNEL_USERNAME="ann")).body["id"]
            with pytest.raises(ConflictError):
                await other.pools.discard(known.pop(taken))
            assert json.loads(await run(service, taken, SHOW))[0] == "ann"
            (waiting,) = known.values()
            await other.pools.discard(waiting)
            assert waiting.is_over.is_set()


async def test_taken_kernel_is_launched_again_as_its_users(live: LiveSettings) -> None:
    """Also by the gateway that had launched it for the pool."""
    settings = dataclasses.replace(live.current.kernels, client_envs=frozenset({"PROJECT"}))
    live.replace(dataclasses.replace(live.current, kernels=settings))
    launcher, taker = Replica(live), Replica(live)
    async with launcher.running():
        record = await launcher.fill()
        async with taker.running():
            await eventually(lambda: all(one.is_takeable for one in taker.registry))
            taken = await taker.take(await taker.pool(), "ann", PROJECT="x")
            assert taken is not None
            assert taken.kernel_id == record.kernel_id
        assert await launcher.registry.find(record.kernel_id) is record
        record.claim()
        await eventually(lambda: record.recovered is not None)
        (path,) = live.current.runtime_dir.glob("*.kernel")
        await kill(json.loads(path.read_bytes())["process"]["pid"])
        await eventually(lambda: record.is_dead)
        await launcher.starter.start_again(record)
        again = await launcher.registry.find(record.kernel_id)
        assert (again.workload.username, again.workload.pool) == ("ann", "")
        assert again.launch is not None
        assert (again.launch.env["KERNEL_USERNAME"], again.launch.env["PROJECT"]) == ("ann", "x")
        await launcher.registry.end(again, DEADLINE)


async def test_start_waits_for_the_kernel_that_is_nearly_ready(live: LiveSettings) -> None:
    """It is that start's, and no other's: a second one does not wait for the same launch."""
    async with pooling(live, 1) as service:
        other = Replica(live)
        async with other.running():
            (record,) = other.registry
            upcoming, pool = other.pools.upcoming, await other.pool(NONE_READY)
            upcoming.note(KERNEL, 2 * DEADLINE)
            with upcoming.launching(pool) as launch:
                launch.began -= 1.5 * DEADLINE
                waiting = asyncio.create_task(other.take(pool, "ann"))
                await eventually(lambda: launch.is_awaited)
                assert await other.take(pool, "bob") is None
                launch.record = record
            assert await waiting is record
            assert record.workload.username == "ann"
        ended = await service.ask("DELETE", f"/api/kernels/{record.kernel_id}")
        assert ended.status == 204


@pytest.mark.parametrize("fraction", [0.4, 1.1])
async def test_start_waits_for_no_launch_that_is_far_from_ready(
    live: LiveSettings, fraction: float
) -> None:
    """Or late: another one is sooner. So is it if there is no telling yet."""
    other = Replica(live)
    async with other.running():
        upcoming, pool = other.pools.upcoming, await other.pool()
        with upcoming.launching(pool) as launch:
            assert await other.take(pool, "ann") is None
            upcoming.note(KERNEL, 2 * DEADLINE)
            launch.began -= fraction * 2 * DEADLINE
            assert await other.take(pool, "ann") is None


async def test_start_goes_on_when_the_launch_it_waits_for_fails(live: LiveSettings) -> None:
    """Or takes longer than usual: it never waits for longer than half of what that is."""
    other = Replica(live)
    async with other.running():
        upcoming, pool = other.pools.upcoming, await other.pool()
        upcoming.note(KERNEL, 2 * DEADLINE)
        with upcoming.launching(pool) as launch:
            launch.began -= 1.5 * DEADLINE
            waiting = asyncio.create_task(other.take(pool, "ann"))
            await eventually(lambda: launch.is_awaited)
        assert await waiting is None
        with upcoming.launching(pool) as launch:
            launch.began -= 2 * DEADLINE - 0.1
            assert await other.take(pool, "ann") is None
            assert not launch.is_awaited
