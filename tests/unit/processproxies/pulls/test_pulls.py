"""Pulls: once for all, going on after the request, with a deadline and new attempts."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.web_request import BaseRequest
from harness.waiting import eventually

from enterprise_gateway.errors import LaunchError, PreparingError, UnavailableError
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.pulls import pulls as module
from enterprise_gateway.services.processproxies.pulls.pulls import Pulls
from enterprise_gateway.settings import (
    DelaySettings,
    DockerSettings,
    HostSettings,
    LiveSettings,
    Settings,
)
from enterprise_gateway.settings.parse import ALWAYS, IF_NOT_PRESENT, NEVER

IMAGE = "registry.example.org/team/kernel:1"
PATIENCE = 20.0


class FakeDaemon:
    """An engine that pulls as the test says.

    Attributes:
        pulled: every request for a pull: its image and its credentials.
        given_up: how many pulls ended because their connection was closed.
        images: those that it has.
        goes_on: cleared, pulls wait in the middle until it is set.
        errors: what the next pulls fail with, at the beginning (a status) or in the middle.
    """

    def __init__(self) -> None:
        self.pulled: list[tuple[str, str]] = []
        self.given_up = 0
        self.images: set[str] = set()
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.errors: list[tuple[int, str]] = []

    async def answer(self, request: BaseRequest) -> web.StreamResponse:
        """Answer like an engine."""
        if request.path.endswith("/images/create"):
            return await self._pull(request)
        if request.path.endswith("/version"):
            return web.json_response({"ApiVersion": "1.41"})
        name = request.path.partition("/images/")[2].removesuffix("/json")
        if name in self.images:
            return web.json_response({"Id": f"sha256:{name}", "Config": {}})
        return web.json_response({"message": "No such image"}, status=404)

    async def _pull(self, request: BaseRequest) -> web.StreamResponse:
        image = request.query["fromImage"]
        self.pulled.append((image, request.headers.get("X-Registry-Auth", "")))
        status, error = self.errors.pop(0) if self.errors else (0, "")
        if status:
            body = json.dumps({"message": error}).encode()
            return web.Response(body=body, status=status, content_type="application/json")
        stream = web.StreamResponse()
        await stream.prepare(request)

        async def say(**message: Any) -> None:
            await stream.write(json.dumps(message).encode() + b"\r\n")

        await say(status="Pulling from team/kernel", id="1")
        await say(status="Pulling fs layer", id="a")
        await say(
            status="Downloading", id="a", progressDetail={"current": 5_000_000, "total": 10_000_000}
        )
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if error:
            await say(errorDetail={"message": error}, error=error)
        else:
            await say(status="Pull complete", id="a", progressDetail={})
            self.images.add(image)
        return stream


@pytest.fixture
async def daemon() -> FakeDaemon:
    """An engine without images."""
    return FakeDaemon()


@pytest.fixture
async def live(daemon: FakeDaemon, tmp_path: Path) -> AsyncIterator[LiveSettings]:
    """The settings of a gateway that uses this engine."""
    server = web.Server(daemon.answer, handler_cancellation=True)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    host = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    yield LiveSettings(
        Settings(
            docker=DockerSettings(host=host),
            host=HostSettings(home=tmp_path),
            delays=DelaySettings(pull_retry_seconds=0.0),
        )
    )
    await runner.cleanup()


@pytest.fixture
async def pulls(live: LiveSettings) -> AsyncIterator[Pulls]:
    """The pulls of that gateway."""
    engine = DockerEngine(live.current.docker)
    engine.open()
    pulls = Pulls(live, engine)
    yield pulls
    await pulls.close()
    await engine.close()


async def until_under_way(pulls: Pulls, image: str = IMAGE) -> None:
    """Wait until a pull has told how far it is."""

    def is_told() -> bool:
        state = pulls.state(image)
        return state is not None and state.bytes > 0

    await eventually(is_told)


async def test_image_that_is_there_is_not_pulled(daemon: FakeDaemon, pulls: Pulls) -> None:
    """The registry is not asked, nor a file with credentials read."""
    daemon.images.add(IMAGE)
    await pulls.provide(IMAGE, IF_NOT_PRESENT, "/no/such/folder", PATIENCE)
    assert daemon.pulled == []


async def test_policy_decides(daemon: FakeDaemon, pulls: Pulls) -> None:
    """`Always` asks the registry although the image is there, `Never` never."""
    with pytest.raises(LaunchError, match="is not pulled \\(pull_policy is Never\\)"):
        await pulls.provide(IMAGE, NEVER, "", PATIENCE)
    assert daemon.pulled == []
    daemon.images.add(IMAGE)
    await pulls.provide(IMAGE, NEVER, "", PATIENCE)
    await pulls.provide(IMAGE, ALWAYS, "", PATIENCE)
    await pulls.provide(IMAGE, ALWAYS, "", PATIENCE)
    assert len(daemon.pulled) == 2


@pytest.mark.parametrize("image", ["localhost/enterprise-gateway/kernel-py:1", "--privileged", "?"])
async def test_image_of_no_registry_is_left_to_the_script(
    daemon: FakeDaemon, pulls: Pulls, image: str
) -> None:
    """The launch script says what is wrong, or uses another image."""
    await pulls.provide(image, IF_NOT_PRESENT, "", PATIENCE)
    assert daemon.pulled == []


async def test_all_wait_for_one_pull(daemon: FakeDaemon, pulls: Pulls) -> None:
    """However the image is spelled."""
    daemon.goes_on.clear()
    names = ["debian", "debian:latest", "docker.io/library/debian", "debian"]
    waiting = [asyncio.create_task(pulls.pull(name)) for name in names]
    await until_under_way(pulls, "debian")
    daemon.goes_on.set()
    await asyncio.gather(*waiting)
    assert daemon.pulled == [("docker.io/library/debian:latest", "")]


async def test_pull_goes_on_when_its_request_gives_up(daemon: FakeDaemon, pulls: Pulls) -> None:
    """The error says how far it is; the next request finds it done."""
    daemon.goes_on.clear()
    leaving = asyncio.create_task(pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE))
    await until_under_way(pulls)
    leaving.cancel()
    await asyncio.wait({leaving})
    with pytest.raises(PreparingError, match=r"0 of 1 layers, 5\.0 MB of 10 MB, .*goes on") as told:
        await pulls.provide(IMAGE, IF_NOT_PRESENT, "", 0.01)
    assert told.value.retry_after > 0
    daemon.goes_on.set()
    await pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE)
    await pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE)
    assert len(daemon.pulled) == 1
    assert daemon.given_up == 0
    assert pulls.state(IMAGE) is None


async def test_deadline_ends_a_pull(daemon: FakeDaemon, live: LiveSettings, pulls: Pulls) -> None:
    """Whatever the patience of those who wait."""
    docker = replace(live.current.docker, pull_timeout=0.5)
    live.replace(replace(live.current, docker=docker))
    daemon.goes_on.clear()
    with pytest.raises(LaunchError, match=r"not pulled within 0\.5 s \(EG_PULL_TIMEOUT\): "):
        await pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE)
    assert pulls.state(IMAGE) is None


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "manifest for team/kernel:1 not found: manifest unknown: manifest unknown"),
        (500, "toomanyrequests: You have reached your pull rate limit"),
        (0, "write /var/lib/docker/tmp/GetImageBlob1: no space left on device"),
    ],
)
async def test_failure_is_told_in_the_words_of_the_registry(
    daemon: FakeDaemon, pulls: Pulls, status: int, words: str
) -> None:
    """At once; the next request begins anew."""
    daemon.errors = [(status, words)]
    with pytest.raises(LaunchError, match=words):
        await pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE)
    await pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE)
    assert len(daemon.pulled) == 2


async def test_broken_network_is_tried_again(daemon: FakeDaemon, pulls: Pulls) -> None:
    """A few times."""
    daemon.errors = [
        (500, "Get https://registry.example.org/v2/: net/http: TLS handshake timeout"),
        (0, "unexpected EOF"),
    ]
    await pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE)
    assert len(daemon.pulled) == 3
    daemon.images.clear()
    daemon.errors = [(500, "dial tcp: connect: connection refused")] * 10
    with pytest.raises(LaunchError, match="connection refused"):
        await pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE)
    assert len(daemon.pulled) == 7


async def test_engine_that_goes_away_is_unavailable(daemon: FakeDaemon, pulls: Pulls) -> None:
    """And not a reason to correct the image's name."""
    daemon.errors = [(503, "<html>no engine</html>")] * 10
    with pytest.raises(UnavailableError, match=r"not here\. .* is away \(status 503\)"):
        await pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE)
    assert len(daemon.pulled) == 4


async def test_credentials_are_sent_and_stay_secret(
    daemon: FakeDaemon, pulls: Pulls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The error says where they are from."""
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {"registry.example.org": {"auth": "YW5uOnNlY3JldA=="}}}))
    daemon.errors = [(500, "unauthorized: authentication required")]
    with pytest.raises(LaunchError, match=str(file)) as told:
        await pulls.provide(IMAGE, IF_NOT_PRESENT, str(tmp_path), PATIENCE)
    assert daemon.pulled[0][1]
    for secret in ("YW5uOnNlY3JldA", "secret", daemon.pulled[0][1]):
        assert secret not in str(told.value)
        assert secret not in caplog.text


async def test_missing_credentials_are_told_if_the_registry_refuses(
    daemon: FakeDaemon, pulls: Pulls, tmp_path: Path
) -> None:
    """And a helper that is not installed, which no public image needs."""
    (tmp_path / "config.json").write_text('{"credsStore": "no-such"}')
    await pulls.provide(IMAGE, IF_NOT_PRESENT, str(tmp_path), PATIENCE)
    daemon.images.clear()
    refusal = (404, "pull access denied for team/kernel")
    daemon.errors = [refusal, refusal]
    with pytest.raises(LaunchError, match="docker-credential-no-such"):
        await pulls.provide(IMAGE, IF_NOT_PRESENT, str(tmp_path), PATIENCE)
    with pytest.raises(LaunchError, match=r"no credentials for registry\.example\.org"):
        await pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE)


async def test_number_of_pulls_is_limited(
    daemon: FakeDaemon, pulls: Pulls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users may name any image, and leave; the present pulls can be waited for."""
    monkeypatch.setattr(module, "MAX_PULLS", 1)
    daemon.goes_on.clear()
    waiting = asyncio.create_task(pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE))
    await until_under_way(pulls)
    with pytest.raises(UnavailableError, match="1 others are being pulled"):
        await pulls.provide("other/image", IF_NOT_PRESENT, "", PATIENCE)
    with pytest.raises(PreparingError):
        await pulls.provide(IMAGE, IF_NOT_PRESENT, "", 0.01)
    daemon.goes_on.set()
    await waiting


async def test_gateway_that_ends_says_so(
    daemon: FakeDaemon, pulls: Pulls, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine gives the pull up with the connection."""
    daemon.goes_on.clear()
    waiting = asyncio.create_task(pulls.provide(IMAGE, IF_NOT_PRESENT, "", PATIENCE))
    await until_under_way(pulls)
    await pulls.close()
    await asyncio.wait({waiting})
    assert f"The pull of {IMAGE} ends with this gateway: 0 of 1 layers" in caplog.text
    await eventually(lambda: daemon.given_up == 1)
