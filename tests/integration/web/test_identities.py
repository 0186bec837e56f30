"""Users known by tokens of their own and by proxies, and those who try to be others."""

import asyncio
import base64
import logging
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from harness.gateways.web_server import TOKEN, Served, serve_routes
from harness.waiting import eventually

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.users import Scope
from enterprise_gateway.settings import AccessSettings, IdentitySettings, ServerSettings
from enterprise_gateway.web.access.failures import LIMIT
from enterprise_gateway.web.access.identity.token_document import (
    StoredToken,
    encode_tokens,
    new_token,
)

STRONG = "a-shared-token-that-is-not-guessed"
LOOPBACK = (ip_network("127.0.0.0/8"),)
OTHERS = (ip_network("10.0.0.0/8"),)
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
NOW = datetime.now(UTC)


def make(
    user: str, scopes: Iterable[Scope] = (Scope.KERNELS,), expires: datetime | None = None
) -> tuple[str, StoredToken]:
    """Make a token."""
    return new_token(user, created=NOW, expires=expires, groups=["ml"], scopes=scopes, acts_for=[])


ANN, ANN_ENTRY = make("ann")
PROMETHEUS, PROMETHEUS_ENTRY = make("prometheus", [Scope.METRICS])
ROOT, ROOT_ENTRY = make("root", [Scope.ADMIN])
OLD, OLD_ENTRY = make("ann", expires=NOW - timedelta(days=1))


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file of tokens."""
    path = tmp_path / "tokens.json"
    path.write_bytes(encode_tokens([ANN_ENTRY, PROMETHEUS_ENTRY, ROOT_ENTRY, OLD_ENTRY]))
    return path


def serve_tokens(path: Path, auth_token: str = "") -> AbstractAsyncContextManager[Served]:
    """Serve a gateway with a file of tokens."""
    return serve_routes(
        access=AccessSettings(auth_token=auth_token),
        identity=IdentitySettings(user_tokens_file=str(path)),
    )


def serve_proxied(
    proxies: tuple[object, ...], access: AccessSettings | None = None, *, trust: bool = False
) -> AbstractAsyncContextManager[Served]:
    """Serve a gateway behind a proxy that signs users in."""
    return serve_routes(
        ServerSettings(port=0, trusted_proxies=proxies, trust_xheaders=trust),  # type: ignore[arg-type]
        access=access or AccessSettings(),
        identity=IdentitySettings(proxy_user_header="X-Forwarded-User"),
    )


def bearer(token: str) -> dict[str, str]:
    """Return the header of a token."""
    return {"Authorization": f"Bearer {token}"}


def basic(token: str) -> dict[str, str]:
    """Return the header of HTTP Basic with a token as the password."""
    return {"Authorization": "Basic " + base64.b64encode(f"x:{token}".encode()).decode()}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/kernels", bearer(ANN)),
        ("/api/kernels", {"Authorization": f"token {ANN}"}),
        ("/api/kernels", basic(ANN)),
        (f"/api/kernels?token={ANN}", {}),
        (f"/t/{ANN}/api/kernels", {}),
        (f"/api/kernels?token={ANN}", bearer(OLD)),
        (f"/api/kernels?token=wrong&token={ANN}", bearer("wrong-too")),
    ],
)
async def test_own_token_is_taken_wherever_the_shared_one_is(
    tokens: Path, path: str, headers: dict[str, str]
) -> None:
    """And names its user; an old one beside it does not matter."""
    async with serve_tokens(tokens) as served:
        answer = await served.ask(path, headers=headers)
        assert answer.status == 200
        told = await answer.json()
    assert (told["user"], told["groups"], told["scopes"]) == ("ann", ["ml"], ["kernels"])
    assert told["credential"] == f"token:{ANN_ENTRY.id}"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/kernels", {}),
        ("/api/kernels", bearer("")),
        ("/api/kernels", bearer(ANN[:-1])),
        ("/api/kernels", bearer(ANN + "x")),
        ("/api/kernels", bearer(ANN.swapcase())),
        ("/api/kernels", bearer(ANN_ENTRY.sha256)),
        ("/api/kernels", bearer(ANN_ENTRY.id)),
        ("/api/kernels", bearer(f"token:{ANN_ENTRY.id}")),
        ("/api/kernels", bearer(OLD)),
        ("/api/kernels", bearer(TOKEN)),
        ("/api/kernels", bearer("x" * 15_000)),
        ("/api/kernels", {"Authorization": ANN}),
        ("/api/kernels", {"Authorization": f"Digest {ANN}"}),
        ("/api/kernels", {"X-Authorization": f"Bearer {ANN}"}),
        ("/api/kernels", {"Cookie": f"token={ANN}"}),
        ("/api/kernels", {"X-Forwarded-User": "ann"}),
        ("/api/kernels", {"Sec-WebSocket-Protocol": f"v1.token.websocket.jupyter.org.{ANN}"}),
        (f"/api/kernels?access_token={ANN}", {}),
        (f"/api/kernels?Token={ANN}", {}),
        (f"/api/kernels#token={ANN}", {}),
        (f"/api/kernels?token={ANN}%00", {}),
        ("/t/wrong/api/kernels", {}),
        ("/api/kernels/x/channels", UPGRADE),
        ("/api/kernels?token=1&token=2&token=3&token=4&token=" + ANN, {}),
    ],
)
async def test_nothing_else_gets_in(tokens: Path, path: str, headers: dict[str, str]) -> None:
    """Without a shared token authentication is on all the same."""
    async with serve_tokens(tokens) as served:
        answer = await served.ask(path, headers=headers)
        assert answer.status == 401
        assert ANN not in str(await answer.json())


async def test_oversized_token_is_no_request(tokens: Path) -> None:
    """A line longer than 16 KiB is not even parsed."""
    async with serve_tokens(tokens) as served:
        raw = await served.send(
            b"GET /api/kernels HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
            + b"x" * 20_000
            + b"\r\n\r\n"
        )
        assert raw.split()[1] == b"431"


async def test_shared_token_may_stay(tokens: Path) -> None:
    """Those who have it are as anonymous as ever."""
    async with serve_tokens(tokens, STRONG) as served:
        told = await (await served.ask("/api/kernels", headers=bearer(STRONG))).json()
        assert (told["user"], told["credential"]) == ("anonymous", "")
        told = await (await served.ask("/api/kernels", headers=bearer(ANN))).json()
        assert told["user"] == "ann"


async def test_refusal_says_which_tokens_there_are(tokens: Path) -> None:
    """And whose token has expired, when."""
    async with serve_tokens(tokens) as served:
        answer = await served.ask("/api/kernels")
        message = (await answer.json())["message"]
        assert message.startswith("The request has no token. Send a token of your own as")
        answer = await served.ask("/api/kernels", headers=bearer(OLD))
        assert (await answer.json())["message"].startswith("The token of the request expired at 2")


@pytest.mark.parametrize(
    ("token", "allowed"),
    [
        (ANN, {"/api/kernels", "/api/kernels/x", "/api/kernelspecs", "/api/me", "/api/status"}),
        (PROMETHEUS, {"/metrics", "/api/status", "/api/me"}),
        (
            ROOT,
            {
                *("/api/kernels", "/api/kernels/x", "/api/kernelspecs", "/api/me", "/api/status"),
                *("/metrics", "/unavailable"),
            },
        ),
    ],
)
async def test_scopes_say_what_a_user_may(tokens: Path, token: str, allowed: set[str]) -> None:
    """What is not allowed is 403, with the scope that is missing."""
    paths = ["/api/kernels", "/api/kernels/x", "/api/kernelspecs", "/api/me", "/api/status"]
    async with serve_tokens(tokens) as served:
        for path in (*paths, "/metrics", "/unavailable"):
            answer = await served.ask(path, headers=bearer(token))
            if path in allowed:
                assert answer.status in {200, 503}, path
            else:
                assert answer.status == 403, path
                assert "it needs the scope admin" in (await answer.json())["message"]


async def test_removed_token_is_refused_and_told(tokens: Path) -> None:
    """Within the seconds that the file is looked at."""
    async with serve_tokens(tokens) as served:
        assert (await served.ask("/api/kernels", headers=bearer(ANN))).status == 200
        await asyncio.to_thread(tokens.write_bytes, encode_tokens([ROOT_ENTRY]))
        await eventually(lambda: len(served.revoked) == 3)
        assert (await served.ask("/api/kernels", headers=bearer(ANN))).status == 401
        assert (await served.ask("/api/kernels", headers=bearer(ROOT))).status == 200
    assert f"token:{ANN_ENTRY.id}" in served.revoked


async def test_gateway_does_not_start_without_its_file(tmp_path: Path) -> None:
    """An operator who misspells the name would wonder why all users are refused."""
    with pytest.raises(ConfigurationError, match="user_tokens_file"):
        async with serve_tokens(tmp_path / "missing.json"):
            pass


# guessing


async def guess(served: Served, count: int = LIMIT + 1) -> int:
    """Send wrong tokens; return the status of the last answer."""
    for number in range(count):
        answer = await served.ask("/api/kernels", headers=bearer(f"guess-{number}"))
    return answer.status


async def test_guessing_ends_in_429(tokens: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Logged with the address and without the tokens, once for all that follow."""
    async with serve_tokens(tokens, STRONG) as served:
        assert await guess(served, LIMIT) == 401
        answer = await served.ask("/api/kernels", headers=bearer("one-more"))
        assert answer.status == 429
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert "from this address" in (await answer.json())["message"]
        assert await guess(served, 100) == 429
    lines = [record.message for record in caplog.records if "rong token" in record.message]
    assert lines[0] == "Wrong token from 127.0.0.1, 1 within a minute"
    assert len(lines) == LIMIT + 1
    assert "guess" not in caplog.text


async def test_wrong_tokens_beside_a_right_one_are_logged(
    tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A user who tries to find another's token is seen."""
    async with serve_tokens(tokens, STRONG) as served:
        for number in range(LIMIT + 2):
            path = f"/api/kernels?token=guess-{number}&token={ANN}"
            assert (await served.ask(path)).status == 200
    lines = [record.message for record in caplog.records if "rong token" in record.message]
    assert len(lines) == LIMIT + 1
    assert "guess" not in "".join(lines)


@pytest.mark.parametrize("token", [STRONG, ANN])
async def test_right_token_is_accepted_beside_a_guesser(tokens: Path, token: str) -> None:
    """Others behind the same address lock no user out."""
    async with serve_tokens(tokens, STRONG) as served:
        assert await guess(served) == 429
        assert (await served.ask("/api/kernels", headers=bearer(token))).status == 200
        assert (await served.ask("/api/kernels")).status == 401


async def test_short_shared_token_cannot_be_found_by_trying(tokens: Path) -> None:
    """It is not compared while its address is over the limit, not even if it is right."""
    async with serve_tokens(tokens, TOKEN) as served:
        assert (await served.ask("/api/kernels", headers=bearer(TOKEN))).status == 200
        assert await guess(served) == 429
        assert (await served.ask("/api/kernels", headers=bearer(TOKEN))).status == 429
        assert (await served.ask("/api/kernels", headers=bearer(ANN))).status == 200


async def test_client_with_an_old_token_is_no_guesser(tokens: Path) -> None:
    """One that polls goes on to get 401, by which it knows to ask its user."""
    async with serve_tokens(tokens) as served:
        for _ in range(3 * LIMIT):
            assert (await served.ask("/api/kernels", headers=bearer("old"))).status == 401
            assert (await served.ask("/api/kernels", headers=bearer(OLD))).status == 401


async def test_holder_of_a_token_may_not_guess_others(tokens: Path) -> None:
    """Wrong tokens count though a right one follows them."""
    async with serve_tokens(tokens, TOKEN) as served:
        for number in range(LIMIT):
            path = f"/api/kernels?token=hidden-guess-{number}&token={ANN}"
            assert (await served.ask(path)).status == 200
        assert await guess(served, 1) == 429
        assert (await served.ask("/api/kernels", headers=bearer(TOKEN))).status == 429


async def test_guesser_behind_a_proxy_is_told_from_others(tokens: Path) -> None:
    """By the address that a trusted proxy reports; any other cannot report one."""
    for trust, status in ((True, 200), (False, 429)):
        async with serve_routes(
            ServerSettings(port=0, trust_xheaders=trust, trusted_proxies=LOOPBACK),
            identity=IdentitySettings(user_tokens_file=str(tokens)),
        ) as served:
            for number in range(LIMIT + 1):
                headers = bearer(f"guess-{number}") | {"X-Real-IP": "192.0.2.1"}
                await served.ask("/api/kernels", headers=headers)
            headers = bearer(TOKEN) | {"X-Real-IP": "192.0.2.2"}
            assert (await served.ask("/api/kernels", headers=headers)).status == status


# proxies that sign users in


async def test_proxy_names_its_users() -> None:
    """For REST and WebSockets."""
    async with serve_proxied(LOOPBACK) as served:
        headers = {"X-Forwarded-User": "ann@example.org"}
        told = await (await served.ask("/api/kernels", headers=headers)).json()
        assert (told["user"], told["credential"]) == ("ann@example.org", "proxy:ann@example.org")
        answer = await served.ask("/api/kernels/x/channels", headers=headers | UPGRADE)
        assert answer.status == 101
        assert (await served.ask("/api/kernels")).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Forwarded-User", "ann")],
        [("X-Forwarded-User", "ann"), ("X-Real-IP", "10.0.0.1")],
        [("X-Forwarded-User", "ann"), ("X-Forwarded-For", "10.0.0.1")],
        [("X-Forwarded-User", "ann"), ("Forwarded", "for=10.0.0.1")],
    ],
)
@pytest.mark.parametrize("trust", [True, False])
async def test_other_peers_cannot_name_users(
    headers: list[tuple[str, str]], *, trust: bool
) -> None:
    """Whatever address they claim to have: that of the connection counts."""
    async with serve_proxied(OTHERS, trust=trust) as served:
        assert (await served.ask("/api/kernels", headers=headers)).status == 401


async def test_address_that_a_proxy_reports_is_no_proxy() -> None:
    """The peer of the connection is, and the header is still its own."""
    async with serve_proxied(LOOPBACK, trust=True) as served:
        headers = [("X-Forwarded-User", "ann"), ("X-Real-IP", "192.0.2.1")]
        told = await (await served.ask("/api/kernels", headers=headers)).json()
        assert (told["user"], told["remote"]) == ("ann", "192.0.2.1")


async def test_page_asks_for_no_token_where_none_is_taken() -> None:
    """It says what is."""
    async with serve_proxied(LOOPBACK) as served:
        answer = await served.ask("/api/kernels", headers={"Accept": "text/html"})
        assert answer.status == 401
        page = await answer.text()
    assert "Users whom the proxy in front has signed in are accepted." in page
    assert "<form" not in page


async def test_two_headers_name_no_user() -> None:
    """One of them may be the client's own."""
    async with serve_proxied(LOOPBACK) as served:
        headers = [("X-Forwarded-User", "root"), ("X-Forwarded-User", "ann")]
        assert (await served.ask("/api/kernels", headers=headers)).status == 401


async def test_pages_of_other_sites_do_not_act_for_users_of_a_proxy() -> None:
    """Their browser has the proxy's cookie, and sends it along unasked."""
    user = {"X-Forwarded-User": "ann"}
    foreign = user | {"Origin": "http://evil.example"}
    async with serve_proxied(LOOPBACK) as served:
        answer = await served.ask("/api/kernels", "POST", headers=foreign)
        assert answer.status == 403
        assert "EG_ALLOW_ORIGIN" in (await answer.json())["message"]
        channels = "/api/kernels/x/channels"
        assert (await served.ask(channels, headers=foreign | UPGRADE)).status == 403
        own = user | {"Origin": f"http://127.0.0.1:{served.port}"}
        assert (await served.ask("/api/kernels", "POST", headers=own)).status == 200
    for allowed, status in (("http://evil.example", 200), ("*", 403)):
        access = AccessSettings(allow_origin=allowed)
        async with serve_proxied(LOOPBACK, access) as served:
            answer = await served.ask("/api/kernels", "POST", headers=foreign)
            assert answer.status == status


async def test_token_is_what_its_client_chose() -> None:
    """It counts, though the proxy names another user."""
    async with serve_proxied(LOOPBACK, AccessSettings(auth_token=STRONG)) as served:
        headers = {"X-Forwarded-User": "ann"}
        told = await (await served.ask("/api/kernels", headers=headers | bearer(STRONG))).json()
        assert told["user"] == "anonymous"
        told = await (await served.ask("/api/kernels", headers=headers | bearer("old"))).json()
        assert told["user"] == "ann"


async def test_log_has_the_user(caplog: pytest.LogCaptureFixture) -> None:
    """Of each request whose user is known."""
    caplog.set_level(logging.DEBUG)
    async with serve_proxied(LOOPBACK) as served:
        await served.ask("/api/kernels", headers={"X-Forwarded-User": "ann"})
    records = [record for record in caplog.records if record.name.endswith("access")]
    assert [record.user for record in records] == ["ann"]  # type: ignore[attr-defined]
