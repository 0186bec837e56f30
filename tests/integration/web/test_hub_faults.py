"""A server in the place of JupyterHub that does not do what it should."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from harness.gateways.web_server import TOKEN, Served, serve_routes
from harness.waiting import eventually

from enterprise_gateway.settings import AccessSettings, IdentitySettings
from enterprise_gateway.web.access.failures import LIMIT
from enterprise_gateway.web.access.identity import json_client, jupyterhub

ANN = {"name": "ann", "kind": "user", "scopes": ["access:servers!user=ann"]}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeHub:
    """Answers as a test says; counts the questions."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self._answer = answer

    async def get_user(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /user`."""
        self.asked.append(request.headers["Authorization"])
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            return await self._answer(request)
        finally:
            self.at_once -= 1


@asynccontextmanager
async def serve_fake(answer: Answer, auth_token: str = "") -> AsyncIterator[tuple[Served, FakeHub]]:
    """Serve a Hub that answers so, and a gateway that asks it."""
    hub = FakeHub(answer)
    app = web.Application()
    app.router.add_get("/hub/api/user", hub.get_user)
    app.router.add_get("/elsewhere", good)
    async with TestServer(app) as server:
        identity = IdentitySettings(jupyterhub_api_url=str(server.make_url("/hub/api")))
        access = AccessSettings(auth_token=auth_token)
        async with serve_routes(access=access, identity=identity) as served:
            yield served, hub


async def good(_request: web.Request) -> web.Response:
    """Answer as a Hub does."""
    return web.json_response(ANN)


async def ask(served: Served, token: str) -> int:
    """Return the status of a request with a token."""
    headers = {"Authorization": f"token {token}"}
    return (await served.ask("/api/kernels", headers=headers)).status


async def redirect(_request: web.Request) -> web.Response:
    """Lead elsewhere."""
    raise web.HTTPFound("/elsewhere")


async def huge(_request: web.Request) -> web.Response:
    """Answer with more than is read."""
    return web.Response(body=b" " * (json_client.MAX_BYTES + 1), content_type="application/json")


async def bomb(_request: web.Request) -> web.Response:
    """Answer with little that would become much."""
    body = gzip.compress(b" " * 100_000_000)
    return web.Response(body=body, headers={"Content-Encoding": "gzip"})


ANSWERS: dict[str, tuple[object, int]] = {
    "array": ([], 503),
    "no name": ({"kind": "user", "scopes": ANN["scopes"]}, 503),
    "name of another type": ({**ANN, "name": 5}, 503),
    "no scopes": ({"name": "ann"}, 401),
    "scopes of another user": ({**ANN, "name": "bob"}, 401),
    "scope with a prefix": ({**ANN, "scopes": ["access:servers!user=ann2"]}, 401),
    "scope to look": ({**ANN, "scopes": ["read:servers!user=ann"]}, 401),
    "server of another user": ({**ANN, "scopes": ["access:servers!server=bob/"]}, 401),
    "server of a longer name": ({**ANN, "scopes": ["access:servers!server=ann2/"]}, 401),
    "user that cannot be": ({**ANN, "name": "*", "scopes": ["access:servers"]}, 401),
    "user with a service's name": ({**ANN, "name": "service:a", "scopes": ["access:servers"]}, 401),
    "access to all servers": ({**ANN, "scopes": ["access:servers"]}, 200),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_answer_is_taken_for_what_it_says(name: str) -> None:
    """And one that makes no sense for no answer."""
    body, status = ANSWERS[name]

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(body)

    async with serve_fake(answer) as (served, _):
        assert await ask(served, "a-token-of-the-hub") == status


async def missing(_request: web.Request) -> web.Response:
    """Be another server than a Hub."""
    raise web.HTTPNotFound


@pytest.mark.parametrize("answer", [redirect, huge, bomb, missing])
async def test_answer_that_is_none_is_503(answer: Answer) -> None:
    """A redirect is not followed: the token would go along."""
    async with serve_fake(answer) as (served, hub):
        assert await ask(served, "a-token-of-the-hub") == 503
        assert len(hub.asked) == 1


async def test_silent_hub_is_503_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway does not wait for ever, and other tokens do not wait at all."""
    monkeypatch.setattr(json_client, "TIMEOUT_SECONDS", 0.5)
    silence = asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        await silence.wait()
        return web.json_response(ANN)

    async with serve_fake(answer, TOKEN) as (served, _):
        waiting = asyncio.create_task(ask(served, "a-token-of-the-hub"))
        assert await ask(served, TOKEN) == 200
        assert await waiting == 503
        silence.set()


async def test_requests_at_the_same_time_ask_once() -> None:
    """A page of JupyterLab sends many."""
    async with serve_fake(good) as (served, hub):
        statuses = await asyncio.gather(*(ask(served, "a-token-of-the-hub") for _ in range(30)))
        assert set(statuses) == {200}
        assert len(hub.asked) == 1


async def test_client_that_leaves_does_not_end_the_question() -> None:
    """Others wait for the same answer."""
    began, gate = asyncio.Event(), asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        began.set()
        await gate.wait()
        return web.json_response(ANN)

    async with serve_fake(answer) as (served, hub):
        first = asyncio.create_task(ask(served, "a-token-of-the-hub"))
        await began.wait()
        second = asyncio.create_task(ask(served, "a-token-of-the-hub"))
        first.cancel()
        await asyncio.wait([first])
        gate.set()
        assert await second == 200
        assert len(hub.asked) == 1


async def test_refusal_is_remembered_in_limited_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old token that a client repeats costs the Hub nothing; guesses push out no user."""
    monkeypatch.setattr(jupyterhub, "MAX_REMEMBERED", 2)

    async def answer(request: web.Request) -> web.Response:
        is_good = request.headers["Authorization"].endswith("good-token")
        return web.json_response(ANN) if is_good else web.Response(status=403)

    async with serve_fake(answer) as (served, hub):
        assert await ask(served, "the-good-token") == 200
        for number in range(5):
            assert await ask(served, f"wrong-token-{number}") == 401
            assert await ask(served, f"wrong-token-{number}") == 401
        assert len(hub.asked) == 6
        assert await ask(served, "the-good-token") == 200
        assert len(hub.asked) == 6


async def test_guesser_asks_one_question_at_a_time() -> None:
    """So that the Hub's users do not wait for the answers to guesses."""
    gate = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await gate.wait()
        is_good = request.headers["Authorization"].endswith("good-token")
        return web.json_response(ANN) if is_good else web.Response(status=403)

    async with serve_fake(answer) as (served, hub):
        guesses = [asyncio.create_task(ask(served, f"guess-no-{n}")) for n in range(LIMIT + 1)]
        await eventually(lambda: hub.at_once == jupyterhub.CONCURRENT_QUESTIONS)
        gate.set()
        await asyncio.gather(*guesses)
        hub.most_at_once = 0
        statuses = await asyncio.gather(*(ask(served, f"one-more-{n}") for n in range(40)))
        assert set(statuses) == {429}
        assert hub.most_at_once == 1
        assert await ask(served, "the-good-token") == 200


async def test_guesses_count_while_the_hub_is_away() -> None:
    """A short shared token is not found by trying meanwhile."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=502)

    async with serve_fake(answer, TOKEN) as (served, _):
        for number in range(LIMIT + 1):
            assert await ask(served, f"guess-no-{number}") == 503
        assert await ask(served, TOKEN) == 503


async def test_hub_that_fails_revokes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked on about a token that it had accepted, until it says that there is none."""
    monkeypatch.setattr(jupyterhub, "CHECK_SECONDS", 0.01)
    answers = [good, unavailable, unavailable, good, unavailable]

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (answers.pop(0) if answers else refused)(request)

    async with serve_fake(answer) as (served, hub):
        headers = {"Authorization": "token some-token-of-the-hub"}
        assert (await served.ask("/api/kernels", headers=headers)).status == 200
        await eventually(lambda: served.revoked)
        assert len(hub.asked) == 6
        assert len(served.revoked) == 1
        assert (await served.ask("/api/kernels", headers=headers)).status == 401


async def unavailable(_request: web.Request) -> web.Response:
    """Answer as a Hub does that cannot reach its database."""
    return web.Response(status=500)


async def refused(_request: web.Request) -> web.Response:
    """Answer as a Hub does that does not know the token."""
    return web.Response(status=403)
