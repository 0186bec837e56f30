"""The events of kernels: what is told, to whom, and what is lost."""

import asyncio
import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Service, is_state, serve_settings
from harness.gateways.users import know_users, make_token
from harness.gateways.webhook_receiver import KEY, Receiver
from harness.waiting import eventually

from enterprise_gateway.app.commands.usage import UsageApp
from enterprise_gateway.errors import LaunchError
from enterprise_gateway.services.api import events as streams
from enterprise_gateway.services.kernels.registry.events import MAX_CPUS
from enterprise_gateway.services.processproxies.resources import Usage
from enterprise_gateway.services.users import Scope, User
from enterprise_gateway.settings import EventSettings, LiveSettings
from enterprise_gateway.web.access.identity import shared_token
from enterprise_gateway.web.access.identity.token_document import encode_tokens

DEADLINE = 60.0
STOP_SECONDS = 20.0
REASON = {"message": "killed by SIGSEGV", "signal": "SIGSEGV"}


class Stream:
    """A reader of server-sent events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.comments = 0
        self.ids: list[str] = []

    async def next(self) -> dict[str, Any]:
        """Return the data of the next event; {} at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE):
            async for raw in self.response.content:
                line = raw.decode().removesuffix("\n")
                name, _, value = line.partition(": ")
                if line == ":":
                    self.comments += 1
                elif line:
                    fields[name] = value
                elif "data" in fields:
                    break
                else:
                    fields = {}
        if not fields:
            return {}
        data = json.loads(fields["data"])
        if fields["event"] != "lost":
            assert (fields["id"], fields["event"]) == (data["id"], data["kind"])
            self.ids.append(fields["id"])
        return dict(data)

    async def until(self, kind: str) -> dict[str, Any]:
        """Return the next event of a kind."""
        while True:
            event = await self.next()
            assert event, f"the stream has ended without {kind}"
            if event.get("kind") == kind:
                return event


@asynccontextmanager
async def follow(
    service: Service, last_id: str = "", headers: dict[str, str] | None = None
) -> AsyncIterator[Stream]:
    """Follow the events of a replica."""
    headers = {**(headers or {}), **({"Last-Event-ID": last_id} if last_id else {})}
    async with service.http.get(
        "/api/events", headers=headers, timeout=aiohttp.ClientTimeout(None)
    ) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        assert (await response.content.readline()).startswith(b"retry: ")
        yield Stream(response)


async def test_life_of_a_kernel_is_told(service: Service, engine: FakeEngine) -> None:
    """Who asked for it, whose it is, how long it took, and what it has used."""
    async with follow(service) as stream:
        kernel_id = await service.start_kernel()
        requested, ready = await stream.next(), await stream.next()
        for event, kind in ((requested, "requested"), (ready, "ready")):
            assert event["kind"] == kind
            assert event["kernel_id"] == kernel_id
            assert (event["owner"], event["by"]) == ("tester", "anonymous")
            assert event["kernel_name"] == "python3"
        assert 0 < ready["seconds"] < DEADLINE
        engine.age(kernel_id, 100.0)
        usage = {"cpu_seconds": 2.5, "memory_peak_bytes": 12345}
        engine.agents[kernel_id].change(username="thief", usage=usage)
        assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204
        ended = await stream.next()
    assert (ended["kind"], ended["owner"], ended["by"]) == ("ended", "tester", "anonymous")
    assert ended["launch"] == ready["launch"]
    assert 100 <= ended["usage"].pop("seconds") < 100 + DEADLINE
    assert ended["usage"] == usage


@pytest.mark.parametrize(
    ("told", "kind", "by"),
    [
        ("culler", "culled", "culler"),
        ("client", "ended", "client"),
        ("agent", "ended", "agent"),
        ("root", "ended", ""),
        ("", "ended", ""),
    ],
)
async def test_end_by_itself_says_what_caused_it(
    service: Service, engine: FakeEngine, told: str, kind: str, by: str
) -> None:
    """By its agent's word, which can name no user."""
    async with follow(service) as stream:
        kernel_id = await service.start_kernel()
        await stream.until("ready")
        engine.agents[kernel_id].change(ended_by=told, execution_state="terminating")
        engine.agents[kernel_id].end()
        ended = await stream.next()
    assert (ended["kind"], ended["owner"], ended.get("by", "")) == (kind, "tester", by)


async def test_death_and_restarts_are_told(service: Service, engine: FakeEngine) -> None:
    """An automatic restart, a death, a restart on request, and a death of the workload."""
    async with follow(service) as stream:
        kernel_id = await service.start_kernel()
        await stream.until("ready")
        agent = engine.agents[kernel_id]
        agent.change(execution_state="restarting", restarts=1, reason=REASON)
        restarted = await stream.next()
        assert (restarted["kind"], restarted["by"]) == ("restarted", "agent")
        assert (restarted["restarts"], restarted["reason"]) == (1, REASON["message"])
        await asyncio.sleep(0.25)  # an agent's reports are limited to one in 0.2 s
        agent.change(execution_state="dead", reason=REASON)
        dead = await stream.next()
        assert (dead["kind"], dead["cause"]) == ("dead", "signal")
        await service.ask("POST", f"/api/kernels/{kernel_id}/restart")
        restarted = await stream.next()
        assert (restarted["kind"], restarted["by"]) == ("restarted", "anonymous")
        await asyncio.sleep(0.25)
        await engine.kill(kernel_id, "exit code 137 (out of memory)")
        again = await stream.next()
        assert (again["kind"], again["cause"]) == ("dead", "out_of_memory")
        assert again["id"] != dead["id"]
        assert (again["launch"], again["owner"]) == (dead["launch"], "tester")
        await service.ask("DELETE", f"/api/kernels/{kernel_id}")
        other = await service.start_kernel()
        assert (await stream.next())["kernel_id"] == other  # its workload had ended before


async def test_refused_and_failed_starts_are_told(
    service: Service, engine: FakeEngine, live: LiveSettings
) -> None:
    """A limit, a kernelspec that does not exist, and a kernel that does not come up."""
    async with follow(service) as stream:
        kernels = dataclasses.replace(live.current.kernels, max_kernels=0)
        before = live.current
        live.replace(dataclasses.replace(before, kernels=kernels))
        await service.ask("POST", "/api/kernels")
        live.replace(before)
        refused = await stream.until("refused")
        assert (refused["error"], refused["owner"]) == ("ForbiddenError", "tester")
        assert "max kernels limit" in refused["reason"]
        await service.ask("POST", "/api/kernels", json={"name": "nothing"})
        unknown = await stream.until("refused")
        assert (unknown["error"], unknown["by"]) == ("NotFoundError", "anonymous")
        assert "kernel_id" not in unknown
        engine.failure = LaunchError("no\nspace " + "x" * 5000)
        await service.ask("POST", "/api/kernels")
        failed = await stream.until("failed")
        assert failed["error"] == "LaunchError"
        assert failed["reason"].startswith("no space")
        assert len(failed["reason"]) <= 500


async def test_every_replica_tells_an_end_with_one_id(
    service: Service, engine: FakeEngine, live: LiveSettings
) -> None:
    """Starts are told by the replica that starts; ends and deaths by all, so that none is lost."""
    async with serve_settings(live) as other, follow(service) as own, follow(other) as others:
        for end in ("DELETE", "death"):
            kernel_id = await service.start_kernel()
            await own.until("ready")
            await eventually(functools.partial(is_state, other, kernel_id, "idle"))
            if end == "DELETE":
                assert (await other.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204
            else:
                await engine.kill(kernel_id, "exit code 1")
            one, two = await own.next(), await others.next()
            assert one["kernel_id"] == two["kernel_id"] == kernel_id
            assert (one["kind"], one["id"]) == (two["kind"], two["id"])
            assert one["launch"] == two["launch"]


async def test_agent_can_claim_no_more_than_time_allows(
    service: Service, engine: FakeEngine
) -> None:
    """On as many CPUs as a machine may have, for a kernel without a limit."""
    async with follow(service) as stream:
        kernel_id = await service.start_kernel()
        await stream.until("ready")
        usage = {"cpu_seconds": 1e11, "memory_peak_bytes": 1}
        engine.agents[kernel_id].change(usage=usage)
        await service.ask("DELETE", f"/api/kernels/{kernel_id}")
        used = (await stream.until("ended"))["usage"]
        assert used["cpu_seconds"] <= MAX_CPUS * used["seconds"] + 1


async def test_reader_that_comes_back_misses_nothing(service: Service) -> None:
    """It gets what came after the last event that it had."""
    async with follow(service) as stream:
        await service.start_kernel()
        last = (await stream.next())["id"]
    second = await service.start_kernel()
    async with follow(service, last) as stream:
        kinds = [(await stream.next())["kind"] for _ in range(3)]
    assert kinds == ["ready", "requested", "ready"]
    async with follow(service, "of another replica") as stream:
        assert [await stream.next() for _ in range(4)][3]["kernel_id"] == second


async def test_streams_are_for_admins(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own scope is not enough, nor is none."""
    for scopes in ({Scope.KERNELS}, {Scope.METRICS}, set()):
        user = User(username="ann", scopes=frozenset(scopes))
        monkeypatch.setattr(shared_token, "SHARED", user)
        answer = await service.ask("GET", "/api/events")
        assert answer.status == 403
        assert "scope admin" in answer.message
    monkeypatch.setattr(shared_token, "SHARED", User("eve", scopes=frozenset({Scope.ADMIN})))
    async with follow(service):
        pass
    answer = await service.ask("GET", "/api/events", headers={"Authorization": ""})
    assert answer.status == 401


async def test_stream_ends_with_the_token_that_opened_it(
    engine: FakeEngine, live: LiveSettings, tmp_path: Path
) -> None:
    """An admin's token that leaves the file; those of others stay."""
    del engine
    made = [make_token(user, scope=Scope.ADMIN) for user in ("ann", "bob")]
    path = tmp_path / "tokens.json"
    know_users(live, path, (entry for _, entry in made))
    ann, bob = ({"Authorization": f"token {token}"} for token, _ in made)
    async with (
        serve_settings(live) as service,
        follow(service, headers=ann) as ending,
        follow(service, headers=bob) as staying,
    ):
        path.write_bytes(encode_tokens(entry for _, entry in made[1:]))
        assert await ending.next() == {}
        answer = await service.ask("POST", "/api/kernels", headers=bob)
        assert (await staying.until("ready"))["kernel_id"] == answer.body["id"]


async def test_streams_are_bounded_in_number_and_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent one has heartbeats, and ends, so that its reader shows its token again."""
    monkeypatch.setattr(streams, "MAX_STREAMS", 1)
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(streams, "STREAM_SECONDS", 0.3)
    async with follow(service) as stream:
        answer = await service.ask("GET", "/api/events")
        assert answer.status == 503
        assert "Retry-After" in answer.headers
        assert await stream.next() == {}
        assert stream.comments >= 2
    async with follow(service):
        pass


async def test_slow_reader_is_told_how_many_events_it_lost(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts are not delayed, and the operator sees the number."""
    monkeypatch.setattr(streams, "MAX_WAITING", 1)
    await service.start_kernel()
    await service.start_kernel()
    async with follow(service, "unknown") as stream:
        assert await stream.next() == {"count": 3}
        assert (await stream.next())["kind"] == "ready"
    page = (await service.ask("GET", "/metrics")).raw.decode()
    assert 'eg_events_lost_total{sink="stream"} 3.0' in page
    assert 'eg_events_total{kind="ready"} 2.0' in page


async def test_gateway_that_stops_ends_its_streams(engine: FakeEngine, live: LiveSettings) -> None:
    """At once: they are no requests that it must finish."""
    del engine
    async with asyncio.timeout(DEADLINE), contextlib.AsyncExitStack() as stack:
        async with serve_settings(live) as service:
            reader = aiohttp.ClientSession(
                f"http://127.0.0.1:{service.port}", headers=service.http.headers
            )
            await stack.enter_async_context(reader)
            following = follow(Service(live, service.port, reader))
            stream = await stack.enter_async_context(following)
            begun = time.monotonic()
        assert time.monotonic() - begun < STOP_SECONDS
        assert await stream.next() == {}


async def test_webhook_gets_what_the_settings_say(engine: FakeEngine, live: LiveSettings) -> None:
    """Signed with the key, also what happened just before the gateway stops."""
    del engine
    receiver = Receiver()
    async with receiver.serve() as url:
        settings = dataclasses.replace(
            live.current, events=EventSettings(webhook_url=url), event_webhook_key=KEY
        )
        async with serve_settings(LiveSettings(settings)) as service:
            kernel_id = await service.start_kernel()
            assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204
    assert [event["kind"] for event in receiver.events] == ["requested", "ready", "ended"]
    assert {event["kernel_id"] for event in receiver.events} == {kernel_id}


async def test_hours_of_gpus_are_summed_by_user(
    engine: FakeEngine,
    live: LiveSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By what the workload has, which the engine says, and not the kernel."""
    path = tmp_path / "events.jsonl"
    settings = dataclasses.replace(live.current, events=EventSettings(log=str(path)))
    async with serve_settings(LiveSettings(settings)) as service:
        kernel_id = await service.start_kernel(env={"KERNEL_USERNAME": "ann"})
        (workload,) = await engine.list()
        engine.announce(dataclasses.replace(workload, usage=Usage(gpus=2)))
        engine.age(kernel_id, 3600.0)
        assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204
    app = UsageApp()
    app.initialize(["--json", str(path)])
    await app.run()
    (user,) = json.loads(capsys.readouterr().out)
    assert user["user"] == "ann"
    assert user["gpu_hours"] == pytest.approx(2 * user["kernel_hours"])
    assert user["gpu_hours"] > 2


@pytest.mark.kernel
async def test_file_of_events_is_what_usage_sums(
    live: LiveSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real kernel that computes, the file, and the command."""
    path = tmp_path / "events.jsonl"
    settings = dataclasses.replace(live.current, events=EventSettings(log=str(path)))
    async with serve_settings(LiveSettings(settings)) as service:
        kernel_id = await service.start_kernel(env={"KERNEL_USERNAME": "ann@example.org"})
        code = "import time\nwhile time.process_time() < 2: pass"
        answer = await service.ask("POST", f"/api/kernels/{kernel_id}/execute", json={"code": code})
        assert answer.status == 200
        assert (await service.ask("DELETE", f"/api/kernels/{kernel_id}")).status == 204
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["kind"] for event in events] == ["requested", "ready", "ended"]
    assert {event["owner"] for event in events} == {"ann--40example--2eorg"}
    usage = events[-1]["usage"]
    assert 2 <= usage["cpu_seconds"] < DEADLINE
    assert usage["memory_peak_bytes"] > 10_000_000
    app = UsageApp()
    app.initialize(["--json", str(path)])
    await app.run()
    (user,) = json.loads(capsys.readouterr().out)
    assert (user["user"], user["workloads"]) == ("ann@example.org", 1)
    assert user["cpu_hours"] == pytest.approx(usage["cpu_seconds"] / 3600)
    assert user["kernel_hours"] == pytest.approx(usage["seconds"] / 3600)
