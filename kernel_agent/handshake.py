"""The server's side of the WebSocket handshake (RFC 6455 section 4.2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Dict, Mapping, NamedTuple

from kernel_agent.codec import V1_SUBPROTOCOL, Codec

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = "13"


class HandshakeError(ValueError):
    """The request is no WebSocket handshake of version 13."""


class Handshake(NamedTuple):
    """What was agreed."""

    codec: Codec
    is_tornado: bool
    """Whether the peer is tornado's client, as in Jupyter servers that use a gateway."""
    headers: Dict[str, str]
    """Of the 101 response."""


def agree(headers: Mapping[str, str]) -> Handshake:
    """Answer the headers of an upgrade request; their names are in lower case.

    Compression is never agreed to: it would cost more than the connection saves.

    Raises:
        HandshakeError: the handshake is malformed.
    """
    key = headers.get("sec-websocket-key", "")
    is_upgrade = headers.get("upgrade", "").lower() == "websocket"
    if not is_upgrade or headers.get("sec-websocket-version") != VERSION or not _is_key(key):
        raise HandshakeError("this is no WebSocket handshake")
    digest = hashlib.sha1(key.encode() + WEBSOCKET_GUID, usedforsecurity=False).digest()
    reply = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
    }
    is_tornado = headers.get("user-agent", "").startswith("Tornado/")
    offered = headers.get("sec-websocket-protocol", "").split(",")
    if V1_SUBPROTOCOL in (name.strip() for name in offered):
        reply["Sec-WebSocket-Protocol"] = V1_SUBPROTOCOL
        return Handshake(Codec.V1, is_tornado, reply)
    codec = Codec.TEXT_ONLY if is_tornado else Codec.LEGACY
    return Handshake(codec, is_tornado, reply)


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
