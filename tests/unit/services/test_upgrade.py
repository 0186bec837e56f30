"""The WebSocket handshake on its way through."""

import pytest

from enterprise_gateway.errors import InvalidRequestError, UnavailableError
from enterprise_gateway.web.upgrade import answer_status, check_upgrade, refusal, upgrade_request


def test_upgrade_request_has_the_agents_token_and_none_of_the_clients_credentials() -> None:
    """Of the client's headers only the handshake and the User-Agent are passed on."""
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
    head = upgrade_request(headers, "a b&c", "AGENT")
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
    head = upgrade_request([], "x\r\nEvil: 1\r\n\r\n", "t")
    assert b"Evil: 1" not in head
    assert head.count(b"\r\n\r\n") == 1


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
    """What is not HTTP has no status."""
    assert answer_status(head) == status


def test_refusals_are_the_clients_fault_or_the_agents() -> None:
    """A malformed handshake is 400 with the agent's words, everything else may pass later."""
    malformed = refusal(400, b'{"reason": "Bad Request", "message": "no key"}')
    assert isinstance(malformed, InvalidRequestError)
    assert str(malformed) == "no key"
    assert isinstance(refusal(401, b"<html>"), UnavailableError)
    assert isinstance(refusal(0, b"\xff"), UnavailableError)
