"""Browsers that open the front page are signed in at a real JupyterHub."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from harness.engines.fake_engine import FakeEngine, proxies_of
from harness.gateways.gateway import find_free_port
from harness.gateways.service import Service, make_settings, serve_settings
from harness.identity.hub import GATEWAY_TOKEN, Hub

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services import composition
from enterprise_gateway.settings import IdentitySettings, LiveSettings
from enterprise_gateway.web.home.hub_sign_in import COOKIE

HTML = {"Accept": "text/html"}


def make_live(folder: Path, hub: Hub, secret: str = GATEWAY_TOKEN) -> LiveSettings:
    """Return the settings of a gateway that is a service of a Hub."""
    token_file = folder / "token-of-the-service"
    token_file.write_text(f"{secret}\n")
    settings = make_settings(folder)
    return LiveSettings(
        replace(
            settings,
            server=replace(settings.server, port=hub.gateway_port),
            identity=IdentitySettings(
                jupyterhub_api_url=hub.api_url,
                jupyterhub_public_url=hub.url,
                jupyterhub_service="gateway",
                jupyterhub_api_token_file=str(token_file),
            ),
        )
    )


@pytest.fixture
async def service(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """The gateway that the Hub sends browsers back to."""
    with tempfile.TemporaryDirectory(prefix="egt") as folder:
        live = make_live(Path(folder), hub)
        engine = FakeEngine(live, tmp_path)
        monkeypatch.setattr(composition, "ProxyRegistry", proxies_of(engine))
        async with serve_settings(live) as served:
            yield served
        await engine.discard()


async def visit(browser: requests.Session, url: str, *, follows: bool = True) -> requests.Response:
    """Open an address as a browser does."""
    return await asyncio.to_thread(
        browser.get, url, headers=HTML, timeout=60, allow_redirects=follows
    )


def address(service: Service, path: str = "/") -> str:
    """Return an address of the gateway, as the Hub has it."""
    return f"http://127.0.0.1:{service.port}{path}"


async def test_user_of_the_hub_is_signed_in(hub: Hub, service: Service) -> None:
    """By way of the Hub, without a question, and the token of the page opens the API."""
    with requests.Session() as browser:
        await asyncio.to_thread(hub.sign_in, browser, "ann")
        page = await visit(browser, address(service))
        assert page.status_code == 200
        assert "You are ann." in page.text
        assert page.url.startswith(address(service, "/?token="))
        assert COOKIE not in browser.cookies
        (token,) = parse_qs(urlsplit(page.url).query)["token"]
    answer = await service.ask("GET", "/api/me", headers={"Authorization": f"token {token}"})
    assert answer.status == 200
    assert answer.body["identity"]["username"] == "ann"


async def test_others_are_sent_to_the_hubs_own_page(hub: Hub, service: Service) -> None:
    """Which asks for name and password; programs and wrong tokens are refused as ever."""
    with requests.Session() as browser:
        page = await visit(browser, address(service))
        assert page.url.startswith(f"{hub.url}/login?")
        wrong = await visit(browser, address(service, "/?token=wrong"))
        assert wrong.status_code == 401
        for path in ("/api/kernels", "/api/me", "/metrics"):
            assert (await visit(browser, address(service, path))).status_code == 401
    anonymous = await service.ask("GET", "/", headers={"Authorization": ""})
    assert anonymous.status == 401


async def test_sign_in_belongs_to_the_browser_that_began_it(hub: Hub, service: Service) -> None:
    """A link with another user's code, or an old one, signs no browser in."""
    with requests.Session() as browser, requests.Session() as victim:
        await asyncio.to_thread(hub.sign_in, browser, "bob")
        begun = await visit(browser, address(service), follows=False)
        sent = await visit(browser, begun.headers["Location"], follows=False)
        link = sent.headers["Location"]
        assert link.startswith(address(service, "/oauth_callback?"))
        refused = await visit(victim, link)
        assert refused.status_code == 403
        assert "has begun no such sign-in" in refused.text
        await visit(victim, address(service), follows=False)
        assert (await visit(victim, link)).status_code == 403
        assert "You are bob." in (await visit(browser, link)).text
        assert (await visit(browser, link)).status_code == 403


async def test_what_the_hub_does_not_know_is_refused(service: Service) -> None:
    """With the reason, and as text: what stands in the address is not the gateway's."""
    with requests.Session() as browser:
        begun = await visit(browser, address(service), follows=False)
        (state,) = parse_qs(urlsplit(begun.headers["Location"]).query)["state"]
        callback = address(service, f"/oauth_callback?state={state}")
        unknown = await visit(browser, f"{callback}&code=unknown")
        assert unknown.status_code == 403
        assert "JupyterHub does not know this sign-in" in unknown.text
        assert (await visit(browser, callback)).status_code == 400
        assert (await visit(browser, f"{callback}&code={'x' * 2000}")).status_code == 400
        denied = await visit(browser, f"{callback}&error=<b>access_denied</b>")
        assert denied.status_code == 403
        assert "&lt;b&gt;access_denied" in denied.text


async def test_hub_that_is_away_is_503(tmp_path: Path) -> None:
    """And no word of the secret."""
    hub = Hub(tmp_path)
    with tempfile.TemporaryDirectory(prefix="egt") as folder:
        live = make_live(Path(folder), hub)
        async with serve_settings(live) as service, asyncio.timeout(60):
            with requests.Session() as browser:
                begun = await visit(browser, address(service), follows=False)
                (state,) = parse_qs(urlsplit(begun.headers["Location"]).query)["state"]
                path = f"/oauth_callback?state={state}&code=any"
                away = await visit(browser, address(service, path))
    assert away.status_code == 503
    assert "JupyterHub does not answer" in away.text
    assert GATEWAY_TOKEN not in away.text


@pytest.mark.parametrize("secret", ["", " \n"])
async def test_file_without_a_token_ends_the_start(tmp_path: Path, secret: str) -> None:
    """With the option's name."""
    hub = Hub(tmp_path)
    hub.gateway_port = find_free_port()
    live = make_live(tmp_path, hub, secret)
    with pytest.raises(ConfigurationError, match="jupyterhub_api_token_file"):
        async with serve_settings(live):
            pass
