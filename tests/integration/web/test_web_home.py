"""The front page, and errors as pages, as a browser asks for them."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from harness.engines.fake_engine import FakeEngine, proxies_of
from harness.gateways.service import TOKEN, Service, make_settings, serve_settings
from harness.gateways.web_server import TOKEN as ROUTES_TOKEN
from harness.gateways.web_server import serve_routes

from enterprise_gateway import _version
from enterprise_gateway.services import composition
from enterprise_gateway.services.users import User
from enterprise_gateway.settings import AccessSettings, LiveSettings, ServerSettings
from enterprise_gateway.web.access.authorization import RequestView

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
ANONYMOUS = {**HTML, "Authorization": ""}


@pytest.fixture
def live() -> Iterator[LiveSettings]:
    """Settings that the test may replace while the gateway runs."""
    with tempfile.TemporaryDirectory(prefix="egt") as folder:
        yield LiveSettings(make_settings(Path(folder)))


@pytest.fixture
async def service(
    live: LiveSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """A gateway with a fake engine."""
    engine = FakeEngine(live, tmp_path)
    monkeypatch.setattr(composition, "ProxyRegistry", proxies_of(engine))
    async with serve_settings(live) as served:
        yield served
    await engine.discard()


async def read_home(service: Service, path: str = "/") -> str:
    """Return the front page."""
    answer = await service.ask("GET", path, headers=HTML)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return answer.raw.decode()


async def test_page_says_how_to_connect(service: Service) -> None:
    """With the address that the client used, and the token."""
    page = await read_home(service)
    assert f"Version {_version.__version__}" in page
    assert "The token is right." in page
    assert f"--gateway-url=http://127.0.0.1:{service.port}<" in page
    assert TOKEN in page
    named = await service.ask("GET", "/", headers={**HTML, "Host": "gateway.example"})
    assert b"--gateway-url=http://gateway.example<" in named.raw
    false = await service.ask("GET", "/", headers={**HTML, "Host": "a;b"})
    assert b"a;b" not in false.raw


async def test_page_counts_the_kernels_that_the_user_may_list(
    service: Service, live: LiveSettings
) -> None:
    """Only if the gateway lists them."""
    assert "No kernel is running." in await read_home(service)
    await service.start_kernel()
    assert "1 kernel is running." in await read_home(service)
    settings = live.current
    live.replace(replace(settings, access=replace(settings.access, list_kernels=False)))
    page = await read_home(service)
    assert "running" not in page
    assert "EG_LIST_KERNELS=True" in page


async def test_page_is_not_kept_framed_or_passed_on(service: Service) -> None:
    """Its headers forbid every feature of browsers that it does not use."""
    for headers in (HTML, ANONYMOUS):
        answer = await service.ask("GET", "/", headers=headers)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Vary"] == "Accept"


async def test_page_asks_for_the_token(service: Service) -> None:
    """Without a token it tells nothing more, and it repeats no wrong token."""
    asking = await service.ask("GET", "/", headers=ANONYMOUS)
    wrong = await service.ask("GET", "/?token=%22%3E%3Cb%3Estale", headers=ANONYMOUS)
    for answer in (asking, wrong):
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert b'<form action="/" method="get">' in answer.raw
        assert _version.__version__.encode() not in answer.raw
    assert b"is wrong" not in asking.raw
    assert b"The token in the address is wrong." in wrong.raw
    assert b"stale" not in wrong.raw
    for path in (f"/?token={TOKEN}", f"/t/{TOKEN}/"):
        assert (await service.ask("GET", path, headers=ANONYMOUS)).status == 200


async def test_other_clients_get_json(service: Service) -> None:
    """Name and version, or the usual error."""
    known = {"name": "Enterprise Gateway", "version": _version.__version__}
    for headers in ({"Accept": "application/json"}, {"Accept": "*/*"}):
        answer = await service.ask("GET", "/", headers=headers)
        assert answer.body == known
        assert answer.headers["Vary"] == "Accept"
    refused = await service.ask("GET", "/", headers={"Authorization": ""})
    assert refused.status == 401
    assert "?token=TOKEN" in refused.message
    assert (await service.ask("HEAD", "/", headers=HTML)).status == 200


async def test_page_is_below_the_base_url(live: LiveSettings) -> None:
    """The root and the base URL without its slash lead there, and keep the query."""
    settings = live.current
    live.replace(replace(settings, server=replace(settings.server, base_url="/base/")))
    async with serve_settings(live) as service:
        home = f"http://127.0.0.1:{service.port}/base"
        assert f"--gateway-url={home}<" in await read_home(service, "/base/")
        for path in ("/", "/base"):
            answer = await service.ask("GET", f"{path}?token=x", allow_redirects=False)
            assert answer.status == 302
            assert answer.headers["Location"] == "/base/?token=x"
            answer = await service.ask("GET", path, headers=ANONYMOUS)
            assert answer.status == 401
            assert b'<form action="/base/" method="get">' in answer.raw


async def test_lines_have_the_base_url_as_addresses_are_written(live: LiveSettings) -> None:
    """A base URL with letters of other scripts is escaped, however a client spells it."""
    settings = live.current
    live.replace(replace(settings, server=replace(settings.server, base_url="/ümlaut/")))
    async with serve_settings(live) as service:
        for path in ("/ümlaut/", "/%C3%BCmlaut/"):
            page = await read_home(service, path)
            assert f"--gateway-url=http://127.0.0.1:{service.port}/%C3%BCmlaut<" in page
        answer = await service.ask("GET", "/", allow_redirects=False)
        assert answer.headers["Location"] == "/%C3%BCmlaut/"


async def test_redirect_asks_for_no_body() -> None:
    """A client that offers one with `Expect` is not told to send it before it is known."""
    async with serve_routes(ServerSettings(port=0, base_url="/base/")) as served:
        head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
        raw = await served.send(head + b"Expect: 100-continue\r\n\r\n{}")
        assert raw.startswith(b"HTTP/1.1 401 ")


async def test_page_of_a_gateway_without_authentication(live: LiveSettings) -> None:
    """It says so, and refuses the same foreign names as the rest of the gateway."""
    live.replace(replace(live.current, access=AccessSettings()))
    async with serve_settings(live) as service:
        assert "asks for no token" in await read_home(service)
        answer = await service.ask("GET", "/", headers={**HTML, "Host": "evil.example"})
        assert answer.status == 403
        assert b"EG_LOCAL_HOSTNAMES" in answer.raw


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/kernels", 401, "Token"),
        ("/api/kernels?token=wrong", 401, "The token in the address is wrong."),
        ("/lab", 404, "There is no page at this address."),
        (f"/conflict?token={ROUTES_TOKEN}", 409, "The kernel id is taken."),
        (f"/unavailable?token={ROUTES_TOKEN}", 503, "The engine does not answer."),
        (f"/broken?token={ROUTES_TOKEN}", 500, "Unexpected error"),
    ],
)
async def test_errors_are_pages_for_browsers(path: str, status: int, says: str) -> None:
    """With their status, headers and message; and JSON for all other clients."""
    server = ServerSettings(port=0, base_url="/base/")
    async with serve_routes(server) as served:
        answer = await served.ask(f"/base{path}", headers=HTML)
        assert answer.status == status
        assert answer.content_type == "text/html"
        assert says in await answer.text()
        assert '"/base/"' in await answer.text()
        plain = await served.ask(f"/base{path}")
        assert plain.content_type == "application/json"
        for name in ("Retry-After", "WWW-Authenticate", "X-Request-ID"):
            assert (name in answer.headers) == (name in plain.headers)


class Closed:
    """Refuses every action."""

    def is_authorized(self, handler: RequestView, user: User, action: str, resource: str) -> bool:
        """Refuse."""
        del handler, user, action, resource
        return False


async def test_user_without_permission_gets_a_page() -> None:
    """403, with the authorizer's message."""
    async with serve_routes(authorizer=Closed()) as served:
        answer = await served.ask(f"/api/kernels?token={ROUTES_TOKEN}", headers=HTML)
        assert answer.status == 403
        assert "not authorized to read on resource: kernels" in await answer.text()
