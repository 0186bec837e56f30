"""Kernel messages as clients write them: on ZMQ, in the v1 WebSocket codec, in the legacy one.

Formats: jupyter_client's messaging page, and jupyter_server's page on the WebSocket protocols.
"""

import hmac
import json
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import uuid4

DELIMITER = b"<IDS|MSG>"
V1_SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"


class Codec(StrEnum):
    """How messages travel on a WebSocket."""

    V1 = "v1"
    LEGACY = "legacy"


@dataclass(frozen=True)
class Request:
    """One request on the shell channel."""

    msg_id: str
    kind: str
    header: bytes
    content: bytes

    @property
    def mark(self) -> bytes:
        """What every message that answers this request contains, and no other."""
        return self.msg_id.encode()

    @property
    def reply(self) -> bytes:
        """What its reply contains in addition."""
        return b'"' + self.kind.replace("_request", "_reply").encode() + b'"'


IDLE = b'"idle"'
"""What the last message of a request on iopub contains in addition."""


def make_request(kind: str, content: dict[str, object], session: str) -> Request:
    """Make a request with a fresh id."""
    msg_id = uuid4().hex
    header = {
        "msg_id": msg_id,
        "msg_type": kind,
        "username": "bench",
        "session": session,
        "date": datetime.now(UTC).isoformat(),
        "version": "5.3",
    }
    return Request(msg_id, kind, json.dumps(header).encode(), json.dumps(content).encode())


def execute_request(code: str, session: str) -> Request:
    """Make the request that runs `code`."""
    return make_request(
        "execute_request",
        {
            "code": code,
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        },
        session,
    )


def encode_zmq(request: Request, key: bytes) -> list[bytes]:
    """The frames of a request on a DEALER socket."""
    parts = [request.header, b"{}", b"{}", request.content]
    return [DELIMITER, hmac.digest(key, b"".join(parts), "sha256").hex().encode(), *parts]


def encode_v1(request: Request) -> bytes:
    """The binary WebSocket message of a request."""
    parts = [b"shell", request.header, b"{}", b"{}", request.content]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join([struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets), *parts])


def encode_legacy(request: Request) -> bytes:
    """The text WebSocket message of a request."""
    return (
        b'{"channel":"shell","parent_header":{},"metadata":{},"buffers":[],"header":'
        + request.header
        + b',"content":'
        + request.content
        + b"}"
    )
