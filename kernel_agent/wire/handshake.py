"""The server's side of the WebSocket handshake (RFC 6455 section 4.2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Dict, Mapping, NamedTuple

from kernel_agent.wire.codec import V1_SUBPROTOCOL, Codec
from kernel_agent.wire.peer_encoder import NO_LIMIT

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = "13"
TORNADO = "Tornado/"
"""Prefix of the `User-Agent` of tornado's client, by which Jupyter servers use gateways."""
TORNADO_MAX_BYTES = 10 * 1024 * 1024
"""Default limit of tornado's client, which closes the connection on a larger message.
jupyter_server has no option to raise it; a tornado client that offers v1 is another program's."""
BINARY_USER_AGENTS = ("Mozilla/", "aiohttp/", "websockets/")
"""Parts of the `User-Agent` of browsers and libraries that deliver binary frames as bytes."""


class HandshakeError(ValueError):
    """The request is not a WebSocket handshake of version 13."""


class Handshake(NamedTuple):
    """The result of a handshake."""

    codec: Codec
    max_bytes: int
    """Size of the largest message that the client accepts, as far as its handshake tells."""
    headers: Dict[str, str]
    """Headers of the 101 response."""


def negotiate(headers: Mapping[str, str], session_id: str) -> Handshake:
    """Answer the headers of an upgrade request; their names are in lower case.

    Compression is never accepted: it would cost more than the connection saves.

    Args:
        headers: headers of the request.
        session_id: `session_id` of its query, "" if there is none.

    Raises:
        HandshakeError: the handshake is malformed.
    """
    key = headers.get("sec-websocket-key", "")
    is_upgrade = headers.get("upgrade", "").lower() == "websocket"
    if not is_upgrade or headers.get("sec-websocket-version") != VERSION or not _is_key(key):
        raise HandshakeError("this is not a WebSocket handshake of version 13")
    digest = hashlib.sha1(key.encode() + WEBSOCKET_GUID, usedforsecurity=False).digest()
    reply = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
    }
    offered = headers.get("sec-websocket-protocol", "").split(",")
    if V1_SUBPROTOCOL in (name.strip() for name in offered):
        reply["Sec-WebSocket-Protocol"] = V1_SUBPROTOCOL
        return Handshake(Codec.V1, NO_LIMIT, reply)
    is_tornado = headers.get("user-agent", "").startswith(TORNADO)
    max_bytes = TORNADO_MAX_BYTES if is_tornado else NO_LIMIT
    codec = Codec.LEGACY if takes_binary(headers, session_id) else Codec.TEXT_ONLY
    return Handshake(codec, max_bytes, reply)


def takes_binary(headers: Mapping[str, str], session_id: str) -> bool:
    """Return whether a client without the v1 subprotocol is known to read binary frames.

    Two do not, and lose the connection at one: the gateway client of jupyter_server, which
    decodes them as UTF-8 (`gateway/connections.py`, with tornado), and its kernel client, which
    nbclient and papermill use (`gateway/managers.py`, with websocket-client and no `session_id`).
    Neither offers an extension or has the `User-Agent` of another library. An unknown client gets
    text until it sends a binary frame itself.
    """
    user_agent = headers.get("user-agent", "")
    if user_agent.startswith(TORNADO):
        return False
    if "permessage-deflate" in headers.get("sec-websocket-extensions", ""):
        return True
    if user_agent:
        return any(name in user_agent for name in BINARY_USER_AGENTS)
    return bool(session_id) and "origin" in headers


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
