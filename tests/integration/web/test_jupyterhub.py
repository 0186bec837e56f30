"""Users of a real JupyterHub, by the tokens that it has given them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from harness.gateways.gateway import find_free_port
from harness.gateways.web_server import Served, serve_routes
from harness.identity.hub import GATEWAY_TOKEN, MAKER_TOKEN, Hub
from harness.waiting import eventually

from enterprise_gateway.settings import AccessSettings, IdentitySettings
from enterprise_gateway.web.access.identity import jupyterhub

SHARED = "a-shared-token-that-is-not-guessed"


@asynccontextmanager
async def serve_hub(url: str, service: str = "") -> AsyncIterator[Served]:
    """Serve a gateway that knows users by the Hub at a URL."""
    async with serve_routes(
        access=AccessSettings(auth_token=SHARED),
        identity=IdentitySettings(
            jupyterhub_api_url=url,
            jupyterhub_service=service,
            acts_for=frozenset({("service:maker", "*")}),
        ),
    ) as served:
        yield served


async def ask(served: Served, token: str) -> tuple[int, str]:
    """Return the status of a request with a token, and its user."""
    answer = await served.ask("/api/kernels", headers={"Authorization": f"token {token}"})
    return answer.status, str((await answer.json()).get("user", ""))


async def test_token_of_a_user_is_accepted(hub: Hub) -> None:
    """With the groups that the user has there."""
    token, _ = hub.make_token("ann")
    async with serve_hub(hub.api_url) as served:
        answer = await served.ask("/api/kernels", headers={"Authorization": f"Bearer {token}"})
        told = await answer.json()
    assert (told["user"], told["groups"], told["scopes"]) == ("ann", ["ml"], ["kernels"])
    assert token not in told["credential"]


async def test_token_of_a_users_server_is_accepted(hub: Hub) -> None:
    """The one that the Hub gives to JupyterLab in its environment."""
    token, _ = hub.make_token("ann", ["access:servers!server=ann/", "users:activity!user=ann"])
    async with serve_hub(hub.api_url) as served:
        assert await ask(served, token) == (200, "ann")


async def test_token_for_something_else_opens_nothing(hub: Hub) -> None:
    """A user made it so that a program could do one thing, and not run code."""
    token, _ = hub.make_token("ann", ["users:activity!user=ann"])
    async with serve_hub(hub.api_url) as served:
        assert (await ask(served, token))[0] == 401
        assert (await ask(served, GATEWAY_TOKEN))[0] == 401
        assert (await ask(served, "unknown-token-of-no-user"))[0] == 401
        assert await ask(served, SHARED) == (200, "anonymous")


async def test_service_has_a_scope_of_its_own(hub: Hub) -> None:
    """The Hub's roles then say who may use the gateway; services are no users of the same name."""
    token, _ = hub.make_token("ann")
    of_server, _ = hub.make_token("ann", ["access:servers!server=ann/"])
    for_gateway, _ = hub.make_token("bob", ["access:services!service=gateway"])
    async with serve_hub(hub.api_url, "gateway") as served:
        assert await ask(served, token) == (200, "ann")
        assert await ask(served, for_gateway) == (200, "bob")
        assert (await ask(served, of_server))[0] == 401
        assert await ask(served, MAKER_TOKEN) == (200, "service:maker")


async def test_hub_is_asked_once_and_again_later(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was revoked there is refused when the Hub's word is old, and that is told."""
    token, token_id = hub.make_token("bob")
    async with serve_hub(hub.api_url) as served:
        assert await ask(served, token) == (200, "bob")
        hub.ask("DELETE", f"/users/bob/tokens/{token_id}")
        assert await ask(served, token) == (200, "bob")
        assert served.revoked == []
    monkeypatch.setattr(jupyterhub, "ACCEPTED_SECONDS", 0.1)
    token, token_id = hub.make_token("bob")
    async with serve_hub(hub.api_url) as served:
        assert await ask(served, token) == (200, "bob")
        hub.ask("DELETE", f"/users/bob/tokens/{token_id}")

        async def is_refused() -> bool:
            return (await ask(served, token))[0] == 401

        await eventually(is_refused)
        assert len(served.revoked) == 1
        assert served.revoked[0].startswith("jupyterhub:")


async def test_token_that_is_not_shown_again_is_looked_after(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has opened may still be open."""
    monkeypatch.setattr(jupyterhub, "CHECK_SECONDS", 0.05)
    kept, _ = hub.make_token("ann")
    token, token_id = hub.make_token("bob")
    async with serve_hub(hub.api_url) as served:
        assert await ask(served, kept) == (200, "ann")
        assert await ask(served, token) == (200, "bob")
        hub.ask("DELETE", f"/users/bob/tokens/{token_id}")
        await eventually(lambda: served.revoked)
        assert (await ask(served, token))[0] == 401
        assert await ask(served, kept) == (200, "ann")
        assert len(served.revoked) == 1


async def test_hub_that_is_away_is_503_with_the_reason() -> None:
    """Not 401, which clients take for good; the shared token works without the Hub."""
    async with serve_hub(f"http://127.0.0.1:{find_free_port()}/hub/api") as served:
        answer = await served.ask(
            "/api/kernels", headers={"Authorization": "token some-token-of-the-hub"}
        )
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "knows the users' tokens does not answer" in (await answer.json())["message"]
        assert await ask(served, SHARED) == (200, "anonymous")
        assert (await served.ask("/api/kernels")).status == 401


async def test_hub_that_comes_back_is_asked_again(hub: Hub) -> None:
    """Its silence is not remembered."""
    token, _ = hub.make_token("ann")
    async with serve_hub(hub.api_url) as served:
        hub.stop()
        try:
            assert (await ask(served, token))[0] == 503
        finally:
            hub.start()
        assert await ask(served, token) == (200, "ann")
