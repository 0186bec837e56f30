"""Users whom the gateway knows: in whose names their kernels are, and what they are shown."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import TOKEN, Service, serve_settings
from harness.gateways.users import know_users, make_token

from enterprise_gateway.services.users import Scope
from enterprise_gateway.settings import LiveSettings

MADE = {
    "ann": make_token("ann"),
    "lab": make_token("lab", ("ann", "bob")),
    "hub": make_token("hub", ("*",)),
    "prometheus": make_token("prometheus", scope=Scope.METRICS),
}


def bearer(name: str) -> dict[str, str]:
    """Return the header of a user's token; of the shared one for ""."""
    return {"Authorization": f"token {MADE[name][0] if name else TOKEN}"}


@pytest.fixture
async def named(engine: FakeEngine, live: LiveSettings, tmp_path: Path) -> AsyncIterator[Service]:
    """A gateway with tokens of users beside the shared one."""
    del engine
    know_users(live, tmp_path / "tokens.json", (entry for _, entry in MADE.values()))
    async with serve_settings(live) as served:
        yield served


@pytest.mark.parametrize(
    ("user", "wanted", "owner"),
    [
        ("ann", None, "ann"),
        ("ann", "ann", "ann"),
        ("ann", "bob", "ann"),
        ("ann", "", "ann"),
        ("ann", 5, "ann"),
        ("ann", "enterprise-gateway-pool", "ann"),
        ("lab", "bob", "bob"),
        ("lab", "carl", "lab"),
        ("lab", None, "lab"),
        ("hub", "carl", "carl"),
        ("hub", None, "hub"),
        ("", "carl", "carl"),
        ("", None, "tester"),
    ],
)
async def test_kernel_is_in_the_name_of_its_user(
    named: Service, engine: FakeEngine, user: str, wanted: object, owner: str
) -> None:
    """Or of one for whom the user acts; without a user in that of the request, as ever."""
    env = {"KERNEL_OTHER": "x"} if wanted is None else {"KERNEL_USERNAME": wanted}
    answer = await named.ask("POST", "/api/kernels", headers=bearer(user), json={"env": env})
    assert answer.status == 201, answer.raw
    (request,) = engine.requests
    assert (request.username, request.env["KERNEL_USERNAME"]) == (owner, owner)
    assert request.env.get("KERNEL_OTHER", "") == ("x" if wanted is None else "")


async def test_body_cannot_name_the_user(named: Service, engine: FakeEngine) -> None:
    """Whatever else it has."""
    body = {"user": "bob", "username": "bob", "env": {"kernel_username": "bob"}}
    answer = await named.ask("POST", "/api/kernels", headers=bearer("ann"), json=body)
    assert answer.status == 201
    assert engine.requests[0].username == "ann"


async def test_kernel_of_a_session_is_its_users(named: Service, engine: FakeEngine) -> None:
    """The first one, and another one that it is given later."""
    body: dict[str, Any] = {"path": "a.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    made = await named.ask("POST", "/api/sessions", headers=bearer("ann"), json=body)
    assert made.status == 201
    answer = await named.ask(
        "PATCH",
        f"/api/sessions/{made.body['id']}",
        headers=bearer("ann"),
        json={"kernel": {"name": "python3"}},
    )
    assert answer.status == 200
    assert [request.username for request in engine.requests] == ["ann", "ann"]


async def test_authorized_users_are_those_that_are_known(
    named: Service, live: LiveSettings
) -> None:
    """A name in the request does not make its sender another user."""
    settings = live.current
    kernels = replace(settings.kernels, unauthorized_users=frozenset({"ann"}))
    live.replace(replace(settings, kernels=kernels))
    env = {"env": {"KERNEL_USERNAME": "bob"}}
    answer = await named.ask("POST", "/api/kernels", headers=bearer("ann"), json=env)
    assert answer.status == 403
    assert "User 'ann' is not authorized" in answer.message
    assert (await named.ask("POST", "/api/kernels", headers=bearer("lab"), json=env)).status == 201
    for query in ("", "?user=bob"):
        listed = await named.ask("GET", f"/api/kernelspecs{query}", headers=bearer("ann"))
        assert listed.body["kernelspecs"] == {}
        one = await named.ask("GET", f"/api/kernelspecs/python3{query}", headers=bearer("ann"))
        assert one.status == 403
    assert (await named.ask("GET", "/api/kernelspecs?user=bob", headers=bearer("lab"))).body[
        "kernelspecs"
    ]
    assert (await named.ask("GET", "/api/kernelspecs")).body["kernelspecs"]


async def test_identity_is_the_users(named: Service) -> None:
    """As JupyterLab shows it; permissions are those that the scopes give."""
    query = "/api/me?" + 'permissions={"kernels":["read"],"api":["read"]}'
    told = (await named.ask("GET", query, headers=bearer("ann"))).body
    assert told["identity"] == {
        "username": "ann",
        "name": "ann",
        "display_name": "ann",
        "initials": None,
        "avatar_url": None,
        "color": None,
    }
    assert told["permissions"]["kernels"] == ["read"]
    told = (await named.ask("GET", query, headers=bearer("prometheus"))).body
    assert told["permissions"] == {"kernels": [], "api": ["read"], "updatable_fields": []}
    told = (await named.ask("GET", query)).body
    assert told["identity"]["username"] == "anonymous"


async def test_metrics_need_their_scope(named: Service) -> None:
    """Prometheus cannot start kernels, and users cannot read the metrics of all."""
    assert (await named.ask("GET", "/metrics", headers=bearer("prometheus"))).status == 200
    assert (await named.ask("GET", "/metrics", headers=bearer("ann"))).status == 403
    assert (await named.ask("GET", "/api/kernels", headers=bearer("prometheus"))).status == 403
    refused = await named.ask("POST", "/api/kernels", headers=bearer("prometheus"), json={})
    assert refused.status == 403


async def test_page_shows_the_user_and_no_other_token(named: Service) -> None:
    """A named user is not told the token that opens everything."""
    html = {"Accept": "text/html"}
    page = (await named.ask("GET", "/", headers=html | bearer("ann"))).raw.decode()
    assert "You are ann." in page
    assert MADE["ann"][0] in page
    assert TOKEN not in page
    page = (await named.ask("GET", f"/?token={TOKEN}", headers=html)).raw.decode()
    assert "The token is right." in page
    assert TOKEN in page
    page = (await named.ask("GET", "/", headers=html | bearer("prometheus"))).raw.decode()
    assert "You are prometheus." in page
    assert "running" not in page
