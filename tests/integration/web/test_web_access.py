"""Who gets in, and from where."""

import base64
import logging
from dataclasses import replace
from ipaddress import ip_network

import aiohttp
import pytest
from harness.gateways.web_server import TOKEN, serve_routes

from enterprise_gateway.services.users import User
from enterprise_gateway.settings import AccessSettings, LiveSettings, ServerSettings
from enterprise_gateway.web.access.authorization import RequestView

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
FOREIGN = {"Origin": "http://evil.example"}


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of HTTP Basic (RFC 7617)."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Authorization": f"token {TOKEN}"}, ""),
        ({"Authorization": f"Token {TOKEN}"}, ""),
        ({"Authorization": f"Bearer {TOKEN}"}, ""),
        ({"Authorization": f"bearer   {TOKEN} "}, ""),
        ({}, f"?token={TOKEN}"),
        ({"Authorization": "token "}, f"?token={TOKEN}"),
        ({"Authorization": "Basic eDp5"}, f"?token={TOKEN}"),
        ({"Authorization": "Basic"}, f"?token={TOKEN}"),
        (basic("ann", TOKEN), ""),
        (basic("", TOKEN), ""),
        (basic("josé", TOKEN), "?token=stale"),
        ({"Authorization": f"token {TOKEN}"}, "?token=stale"),
    ],
)
async def test_right_token_is_accepted(headers: dict[str, str], query: str) -> None:
    """In the header in either scheme, or in the query; one right token is enough."""
    async with serve_routes() as served:
        assert (await served.ask(f"/api/kernels{query}", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, ""),
        ({"Authorization": "token "}, ""),
        ({"Authorization": "token"}, ""),
        ({"Authorization": TOKEN}, ""),
        ({"Authorization": f"Basic {TOKEN}"}, ""),
        ({"Authorization": "Basic %%%"}, ""),
        (basic(TOKEN, ""), ""),
        (basic("ann", f"{TOKEN}:x"), ""),
        ({"Authorization": f"token {TOKEN}x"}, ""),
        ({"Authorization": f"token {TOKEN[:-1]}"}, ""),
        ({"Authorization": "token Größe"}, ""),
        ({}, "?token="),
        ({}, "?token=wrong"),
        ({}, f"?TOKEN={TOKEN}"),
    ],
)
async def test_wrong_token_is_refused(headers: dict[str, str], query: str) -> None:
    """401 with a JSON body, as Enterprise Gateway answers."""
    async with serve_routes() as served:
        for path in ("/api/kernels", "/api/kernels/x/channels"):
            answer = await served.ask(path + query, headers=headers)
            assert answer.status == 401
            body = await answer.json()
            assert body["reason"] == "Unauthorized"
            assert "'?token=TOKEN'" in body["message"]
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_refusal_says_what_to_do() -> None:
    """The message tells a missing token from a wrong one, and names the variable at fault."""
    async with serve_routes() as served:

        async def message(path: str, headers: dict[str, str]) -> str:
            return str((await (await served.ask(path, headers=headers)).json())["message"])

        assert (await message("/api/kernels", {})).startswith("The request has no token.")
        wrong = await message("/api/kernels?token=wrong", {})
        assert wrong.startswith("The token of the request is wrong.")
        assert "JUPYTER_GATEWAY_HTTP_USER" not in wrong
        guest = await message("/api/kernels", basic("guest", "guest-password"))
        assert "JUPYTER_GATEWAY_HTTP_USER is set: unset it" in guest


async def test_request_makes_few_guesses() -> None:
    """Of hundreds of tokens in a request only the first four are compared."""
    wrong = "&".join(f"token={number}" for number in range(300))
    async with serve_routes() as served:
        assert (await served.ask(f"/api/kernels?{wrong}&token={TOKEN}")).status == 401
        assert (await served.ask(f"/api/kernels?token=1&token=2&token={TOKEN}")).status == 200


async def test_token_in_the_path_is_accepted() -> None:
    """Clients that can set nothing but a URL put the token into it, for WebSockets too."""
    async with serve_routes(ServerSettings(port=0, base_url="/base/")) as served:
        answer = await served.ask(f"/base/t/{TOKEN}/api/kernels/abc")
        assert (await answer.json())["id"] == "abc"
        assert (await served.ask("/base/t/wrong/api/kernels")).status == 401
        assert (await served.ask(f"/t/{TOKEN}/base/api/kernels")).status == 404
        url = f"{served.url}/base/t/{TOKEN}/api/kernels/abc/channels"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize("path", ["/t/x%2Fapi/api/kernels", "/t/x%2F..%2Fapi/api/kernels"])
async def test_escaped_slashes_open_nothing(path: str) -> None:
    """No spelling makes a guarded path look like an open one."""
    async with serve_routes() as served:
        assert (await served.ask(path.replace("%", "%25"))).status in {401, 404}
        raw = await served.send(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        assert raw.split()[1] in {b"401", b"404"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "token "}, {"Authorization": "token x"}])
async def test_without_a_token_everything_is_open(headers: dict[str, str]) -> None:
    """An explicit empty token switches authentication off; stray credentials do not matter."""
    async with serve_routes(access=AccessSettings()) as served:
        assert (await served.ask("/api/kernels", headers=headers)).status == 200


async def test_probes_and_preflights_need_no_token() -> None:
    """Load balancers and browsers have none to show."""
    async with serve_routes() as served:
        for path in ("/api", "/healthz"):
            assert (await served.ask(path, headers=FOREIGN)).status == 200
        for path in ("/api/kernels", "/api/kernels/x", "/api/kernels/x/channels", "/api"):
            answer = await served.ask(path, "OPTIONS")
            assert answer.status == 200
            assert answer.headers["Content-Length"] == "0"
        assert (await served.ask("/unknown", "OPTIONS")).status == 404
        assert (await served.ask("/unknown")).status == 404


async def test_changed_token_is_in_force_at_once() -> None:
    """Dynamic reload reaches `AuthMiddleware`."""
    async with serve_routes() as served:
        change(served.live, AccessSettings(auth_token="new"))
        assert (await served.ask(f"/api/kernels?token={TOKEN}")).status == 401
        assert (await served.ask("/api/kernels?token=new")).status == 200


async def test_token_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Access lines have the path and neither the query nor the path's token."""
    caplog.set_level(logging.DEBUG)
    async with serve_routes() as served:
        await served.ask(f"/api/kernels?token={TOKEN}&x=1")
        await served.ask(f"/t/{TOKEN}/api/kernels")
        await served.ask("/api/kernels", headers={"Authorization": f"token {TOKEN}"})
        await served.ask(f"/unknown?token={TOKEN}")
    lines = [record.message for record in caplog.records if record.name.endswith("access")]
    assert [line.split()[2] for line in lines] == [
        "/api/kernels",
        "/t/<token>/api/kernels",
        "/api/kernels",
        "/unknown",
    ]
    assert TOKEN not in caplog.text


# origins


async def test_foreign_page_is_refused_without_a_token() -> None:
    """With authentication off, a page elsewhere gets 404, and 403 for a WebSocket."""
    async with serve_routes(access=AccessSettings()) as served:
        assert (await served.ask("/api/kernels", headers=FOREIGN)).status == 404
        own = {"Origin": f"http://127.0.0.1:{served.port}"}
        assert (await served.ask("/api/kernels", headers=own)).status == 200
        channels = "/api/kernels/x/channels"
        assert (await served.ask(channels, headers=FOREIGN | UPGRADE)).status == 403
        change(served.live, AccessSettings(allow_origin=FOREIGN["Origin"]))
        assert (await served.ask("/api/kernels", headers=FOREIGN)).status == 200
        change(served.live, AccessSettings(allow_origin="*"))
        assert (await served.ask("/api/kernels", headers=FOREIGN)).status == 200


@pytest.mark.parametrize("head", ["Origin:\r\nHost: 127.0.0.1\r\n", "Origin: http://a\r\n"])
async def test_page_that_hides_where_it_is_from_is_refused(head: str) -> None:
    """An empty Origin is none of ours, nor is one without a Host to compare it with."""
    async with serve_routes(access=AccessSettings()) as served:
        raw = await served.send(f"GET /api/kernels HTTP/1.0\r\n{head}\r\n".encode())
        assert raw.split()[1] == b"404"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("evil.example:8888", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("[bad", 403),
        ("localhost", 200),
        ("LOCALHOST:8888", 200),
        ("127.0.0.1:8888", 200),
        ("[::1]:8888", 200),
        ("notebook.test", 200),
    ],
)
async def test_rebound_name_is_refused_without_a_token(host: str, status: int) -> None:
    """A page whose own name resolves to this machine starts nothing (DNS rebinding)."""
    server = ServerSettings(port=0, local_hostnames=frozenset({"localhost", "Notebook.test"}))
    own_page = {"Host": host, "Origin": f"http://{host.lower()}"}
    async with serve_routes(server, access=AccessSettings()) as served:
        for headers in ({"Host": host}, own_page):
            if host != "[bad" or "Origin" not in headers:
                assert (await served.ask("/api/kernels", headers=headers)).status == status
        assert (await served.ask("/healthz", headers={"Host": host})).status == 200
    async with serve_routes(server) as served:
        answer = await served.ask(f"/api/kernels?token={TOKEN}", headers={"Host": host})
        assert answer.status == 200


async def test_names_do_not_matter_where_others_are_served() -> None:
    """A gateway on all interfaces has names that it does not know."""
    for server in (
        ServerSettings(ip="0.0.0.0", port=0),
        ServerSettings(port=0, local_hostnames=frozenset({"*"})),
    ):
        async with serve_routes(server, access=AccessSettings()) as served:
            answer = await served.ask("/api/kernels", headers={"Host": "gateway.example"})
            assert answer.status == 200


async def test_foreign_page_with_a_token_is_accepted() -> None:
    """Browsers never add a token by themselves, so a page that has it may use it."""
    async with serve_routes() as served:
        answer = await served.ask(f"/api/kernels?token={TOKEN}", headers=FOREIGN)
        assert answer.status == 200
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_cors_headers_are_on_every_answer() -> None:
    """Errors and preflights have them too: browsers hide answers that lack them."""
    access = AccessSettings(auth_token=TOKEN, allow_origin="*", max_age="60")
    async with serve_routes(access=access) as served:
        for path, method in (
            ("/api", "GET"),
            ("/api/kernels", "GET"),
            ("/unknown", "GET"),
            ("/api/kernels/x", "OPTIONS"),
        ):
            answer = await served.ask(path, method)
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["Access-Control-Max-Age"] == "60"
            assert "Access-Control-Allow-Methods" not in answer.headers


# authorizers


class Recorder:
    """Allows reading; records the questions."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def is_authorized(self, handler: RequestView, user: User, action: str, resource: str) -> bool:
        """Allow reading."""
        assert handler.current_user is user
        self.asked.append((str(user), action, resource))
        return action == "read"


class LateRecorder(Recorder):
    """The same, but asynchronous, as jupyter_server allows."""

    async def is_authorized(  # type: ignore[override] # an authorizer may be either
        self, handler: RequestView, user: User, action: str, resource: str
    ) -> bool:
        """Allow reading."""
        return super().is_authorized(handler, user, action, resource)


@pytest.mark.parametrize("recorder", [Recorder(), LateRecorder()], ids=["plain", "async"])
async def test_authorizer_is_asked_about_every_resource(recorder: Recorder) -> None:
    """Kernelspecs and single kernels included, which Enterprise Gateway forgets."""
    headers = {"Authorization": f"token {TOKEN}"}
    async with serve_routes(authorizer=recorder) as served:
        assert (await served.ask("/api/kernels", headers=headers)).status == 200
        assert (await served.ask("/api/kernels/x", headers=headers)).status == 200
        assert (await served.ask("/api/kernelspecs", headers=headers)).status == 200
        answer = await served.ask("/api/kernels", "POST", headers=headers)
        assert answer.status == 403
        message = "User is not authorized to write on resource: kernels."
        assert (await answer.json())["message"] == message
        channels = await served.ask("/api/kernels/x/channels", headers=headers | UPGRADE)
        assert channels.status == 403
        await served.ask("/api/kernels")
    assert recorder.asked == [
        ("anonymous", "read", "kernels"),
        ("anonymous", "read", "kernels"),
        ("anonymous", "read", "kernelspecs"),
        ("anonymous", "write", "kernels"),
        ("anonymous", "execute", "kernels"),
    ]


# proxies in front


async def test_proxy_in_front_names_the_client(caplog: pytest.LogCaptureFixture) -> None:
    """Only with trust_xheaders: any client can send such headers."""
    caplog.set_level(logging.INFO)
    headers = {"X-Real-IP": "10.9.8.7", "X-Scheme": "https"}
    async with serve_routes() as served:
        seen = await (await served.ask("/api", headers=headers)).json()
    assert (seen["remote"], seen["scheme"]) == ("127.0.0.1", "http")
    async with serve_routes(ServerSettings(port=0, trust_xheaders=True)) as served:
        seen = await (await served.ask("/api", headers=headers)).json()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                f"{served.url}/api/kernels/x/channels?token={TOKEN}", headers=headers
            ) as socket,
        ):
            assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE
    assert (seen["remote"], seen["scheme"]) == ("10.9.8.7", "https")
    assert "(10.9.8.7)" in caplog.text


async def test_only_proxies_that_are_listed_name_clients() -> None:
    """A kernel that reaches the port directly cannot pass for another client."""
    headers = {"X-Real-IP": "10.9.8.7"}
    for network, remote in (("10.0.0.0/8", "127.0.0.1"), ("127.0.0.0/8", "10.9.8.7")):
        server = ServerSettings(port=0, trust_xheaders=True, trusted_proxies=(ip_network(network),))
        async with serve_routes(server) as served:
            seen = await (await served.ask("/api", headers=headers)).json()
        assert seen["remote"] == remote


@pytest.mark.parametrize(
    ("base_url", "spelling"),
    [
        ("/", "/"),
        ("/gate/", "/gate/"),
        ("/a/b/", "/a/b/"),
        ("/a%40b/", "/a%40b/"),
        ("/a%40b/", "/a@b/"),
        ("/a@b/", "/a%40b/"),
        ("/notebooks of josé/", "/notebooks%20of%20jos%C3%A9/"),
        ("/jos%c3%a9/", "/jos%C3%A9/"),
        ("/a%2Fb/", "/a%2Fb/"),
        ("/a.b/", "/a.b/"),
    ],
)
async def test_everything_is_below_the_base_url(base_url: str, spelling: str) -> None:
    """Every spelling of it is served, nothing outside of it is."""
    async with serve_routes(ServerSettings(port=0, base_url=base_url)) as served:

        async def status(path: str) -> int:
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            return int((await served.send(head.encode())).split()[1])

        assert await status(f"{spelling}api") == 200
        assert await status(f"{spelling}api/kernels") == 401
        assert await status(f"{spelling}api/kernels?token={TOKEN}") == 200
        assert await status(f"{spelling}t/{TOKEN}/api/kernels/x") == 200
        if base_url != "/":
            assert await status("/api") == 404
        if base_url == "/a.b/":
            assert await status("/axb/api") == 404


def change(live: LiveSettings, access: AccessSettings) -> None:
    """Put other access settings in force."""
    live.replace(replace(live.current, access=access))
