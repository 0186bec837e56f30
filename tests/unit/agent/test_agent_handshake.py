"""The WebSocket handshake."""

import pytest

from kernel_agent.handshake import HandshakeError, agree


@pytest.mark.parametrize(
    "change",
    [
        {"upgrade": "h2c"},
        {"sec-websocket-version": "8"},
        {"sec-websocket-key": "short"},
        {"sec-websocket-key": "ä"},
    ],
)
def test_malformed_handshake_is_refused(change: dict[str, str]) -> None:
    """Only version 13 with a proper key."""
    good = {
        "upgrade": "WebSocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert agree(good).headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    with pytest.raises(HandshakeError):
        agree({**good, **change})
