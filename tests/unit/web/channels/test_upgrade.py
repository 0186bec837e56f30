"""The WebSocket handshake on its way through."""

import pytest

from enterprise_gateway.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    UnavailableError,
)
from enterprise_gateway.web.channels.upgrade import (
    REPLAY_MAX_CHARS,
    agent_target,
    answer_status,
    check_upgrade,
    clean_head,
    refusal,
    upgrade_request,
)


def test_upgrade_request_has_the_agents_token_and_none_of_the_clients_credentials() -> None:
    """Only the handshake's headers, Origin and User-Agent are passed on."""
    headers = [
        ("Host", "gateway:8888"),
        ("Authorization", "token CLIENT"),
        ("Cookie", "secret=CLIENT"),
        ("X-XSRFToken", "CLIENT"),
        ("Connection", "keep-alive, Upgrade"),
        ("User-Agent", "Tornado/6"),
        ("Sec-WebSocket-Key", "KEY"),
        ("sec-websocket-version", "13"),
        ("Sec-WebSocket-Protocol", "v1.kernel.websocket.jupyter.org"),
    ]
    target = agent_target({"token": "CLIENT", "session_id": "a b&c"}, {})
    head = upgrade_request(headers, target, "AGENT")
    assert b"CLIENT" not in head
    lines = head.decode().split("\r\n")
    assert lines[0] == "GET /v1/channels?session_id=a+b%26c HTTP/1.1"
    assert lines.count("Authorization: Bearer AGENT") == 1
    assert lines.count("Connection: Upgrade") == 1
    assert "User-Agent: Tornado/6" in lines
    assert "Sec-WebSocket-Key: KEY" in lines
    assert "sec-websocket-version: 13" in lines
    assert head.endswith(b"\r\n\r\n")


def test_upgrade_request_cannot_be_split_by_a_session_id() -> None:
    """Line ends in a session id are escaped."""
    head = upgrade_request([], agent_target({"session_id": "x\r\nEvil: 1\r\n\r\n"}, {}), "t")
    assert b"Evil: 1" not in head
    assert head.count(b"\r\n\r\n") == 1


def test_upgrade_request_asks_for_a_replay_of_limited_length() -> None:
    """A longer one is the client's error."""
    target = agent_target({"replay": "r" * REPLAY_MAX_CHARS}, {})
    assert target.startswith("/v1/channels?replay=rrr")
    with pytest.raises(InvalidRequestError, match="replay"):
        agent_target({"replay": "r" * (REPLAY_MAX_CHARS + 1)}, {})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upgrade": "h2c", "Connection": "Upgrade"},
        {"Upgrade": "websocket"},
        {"Upgrade": "websocket", "Connection": "keep-alive"},
    ],
)
def test_requests_that_are_no_upgrade_are_refused(headers: dict[str, str]) -> None:
    """A plain GET of the channels is the client's error."""
    with pytest.raises(InvalidRequestError):
        check_upgrade(headers)


@pytest.mark.parametrize("options", ["Upgrade", "upgrade", "keep-alive, Upgrade"])
def test_upgrades_are_accepted_in_every_spelling(options: str) -> None:
    """Tokens are compared as RFC 9110 says."""
    check_upgrade({"Upgrade": "WebSocket", "Connection": options})


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\n", 101),
        (b"HTTP/1.0 404 \r\n", 404),
        (b"HTTP/1.1 4x4 \r\n", 0),
        (b"SSH-2.0-OpenSSH 101\r\n", 0),
        (b"", 0),
    ],
)
def test_answer_status_is_read_from_http_only(head: bytes, status: int) -> None:
    """Bytes that are not HTTP have no status."""
    assert answer_status(head) == status


def test_refusals_are_the_clients_fault_or_the_agents() -> None:
    """A malformed handshake is 400 with the agent's message, every other refusal is 503."""
    malformed = refusal(400, b'{"reason": "Bad Request", "message": "no key"}')
    assert isinstance(malformed, InvalidRequestError)
    assert str(malformed) == "no key"
    assert isinstance(refusal(401, b"<html>"), UnavailableError)
    assert isinstance(refusal(0, b"\xff"), UnavailableError)


def test_client_gets_nothing_of_an_agents_head_but_the_handshake() -> None:
    """An agent sets no cookies and allows no origins in the gateway's name."""
    head = (
        b"HTTP/1.1 101 <b>Anything</b>\r\nSet-Cookie: a=b\r\nsec-websocket-accept: proof\r\n"
        b"Access-Control-Allow-Origin: *\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Protocol: v1.kernel.websocket.jupyter.org\r\n\r\n"
    )
    assert clean_head(head).split(b"\r\n") == [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"sec-websocket-accept: proof",
        b"Sec-WebSocket-Protocol: v1.kernel.websocket.jupyter.org",
        b"",
        b"",
    ]


@pytest.mark.parametrize(
    "field",
    [
        b"Sec-WebSocket-Accept: a\nSet-Cookie: a=b",
        b"Sec-WebSocket-Accept: a\rSet-Cookie: a=b",
        b"Sec-WebSocket-Accept: a\x00",
        b"Sec-WebSocket-Accept : a",
        b" folded",
        b"no colon",
        b": no name",
        b"Sec-WebSocket-\xff: a",
    ],
)
def test_malformed_fields_of_an_agents_head_are_refused(field: bytes) -> None:
    """They could pass for another field at a proxy or a client."""
    with pytest.raises(UnavailableError):
        clean_head(b"HTTP/1.1 101 Switching Protocols\r\n" + field + b"\r\n\r\n")


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"message": ' + b"[" * 100_000, b"\xff", b"7"])
def test_refusals_without_a_message_are_refusals(body: bytes) -> None:
    """Whatever an agent answers, the client reads that the agent refused."""
    assert "refused" in str(refusal(500, body))


def test_client_that_is_there_by_a_share_takes_another_path() -> None:
    """An agent that cannot hold it to the share does not know that path."""
    ann = {"user": "ann b", "credential": "c&1"}
    assert agent_target({"session_id": "s"}, ann) == (
        "/v1/channels?session_id=s&user=ann+b&credential=c%261"
    )
    assert agent_target({}, {**ann, "grant": "g"}).startswith("/v1/shared/channels?user=ann+b&")


def test_client_cannot_say_who_it_is() -> None:
    """The gateway alone does."""
    query = {"session_id": "s", "user": "ann", "credential": "c", "grant": "g"}
    assert agent_target(query, {}) == "/v1/channels?session_id=s"
    assert "user=bob" in agent_target(query, {"user": "bob"})


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (403, ForbiddenError, "not shared with you any more"),
        (404, ConflictError, "older than this gateway"),
        (500, UnavailableError, "status 500"),
    ],
)
def test_refusal_of_an_agent_says_why(status: int, error: type[Exception], text: str) -> None:
    """Also that of an agent that knows no shares."""
    refused = refusal(status, b'{"message": "the kernel is not shared with you any more"}')
    assert type(refused) is error
    assert text in str(refused)
