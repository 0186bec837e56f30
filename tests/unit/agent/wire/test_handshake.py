"""The WebSocket handshake."""

import pytest

from kernel_agent.wire.codec import V1_SUBPROTOCOL, Codec
from kernel_agent.wire.handshake import TORNADO_MAX_BYTES, HandshakeError, negotiate
from kernel_agent.wire.peer_encoder import NO_LIMIT

GOOD = {
    "upgrade": "WebSocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
ORIGIN = {"origin": "http://gateway:8888"}
DEFLATE = {"sec-websocket-extensions": "permessage-deflate; client_max_window_bits"}
BROWSER = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"
}
V1 = {"sec-websocket-protocol": V1_SUBPROTOCOL}
TORNADO = {"user-agent": "Tornado/6.6.1"}


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
    assert negotiate(GOOD, "").headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    with pytest.raises(HandshakeError):
        negotiate({**GOOD, **change}, "")


@pytest.mark.parametrize(
    ("client", "headers", "session_id", "codec"),
    [
        ("JupyterLab in a browser", {**ORIGIN, **BROWSER, **DEFLATE, **V1}, "s", Codec.V1),
        ("older JupyterLab", {**ORIGIN, **BROWSER, **DEFLATE}, "s", Codec.LEGACY),
        ("browser behind a proxy", {**ORIGIN, **BROWSER}, "s", Codec.LEGACY),
        ("VS Code: node's ws", DEFLATE, "s", Codec.LEGACY),
        ("jupyter_server's gateway client", TORNADO, "s", Codec.TEXT_ONLY),
        ("the same before 2.14.2", TORNADO, "", Codec.TEXT_ONLY),
        ("the same with compression", {**TORNADO, **DEFLATE}, "s", Codec.TEXT_ONLY),
        ("the same that offers v1", {**TORNADO, **V1}, "s", Codec.V1),
        ("the same with another name", {"user-agent": "acme-hub/2"}, "s", Codec.TEXT_ONLY),
        ("the same behind a proxy that hides it", {}, "s", Codec.TEXT_ONLY),
        ("nbclient, papermill: GatewayKernelClient", ORIGIN, "", Codec.TEXT_ONLY),
        ("jupyter-kernel-client", ORIGIN, "s", Codec.LEGACY),
        ("jupyter-kernel-client with v1", {**ORIGIN, **V1}, "s", Codec.V1),
        ("aiohttp", {"user-agent": "Python/3.11 aiohttp/3.14.5"}, "", Codec.LEGACY),
        ("websockets", {**DEFLATE, "user-agent": "Python/3.11 websockets/15.0"}, "", Codec.LEGACY),
        ("several subprotocols", {"sec-websocket-protocol": f"x, {V1_SUBPROTOCOL}"}, "", Codec.V1),
        ("unknown", {}, "", Codec.TEXT_ONLY),
    ],
)
def test_binary_frames_go_to_clients_known_to_read_them(
    client: str, headers: dict[str, str], session_id: str, codec: Codec
) -> None:
    """Decided by what each client sends in its handshake."""
    handshake = negotiate({**GOOD, **headers}, session_id)
    assert handshake.codec is codec, client
    is_stock_server = headers.get("user-agent") == "Tornado/6.6.1" and codec is not Codec.V1
    assert handshake.max_bytes == (TORNADO_MAX_BYTES if is_stock_server else NO_LIMIT)
