"""Requests as the benchmarks send them: encoded once, whatever they travel on."""

import hmac
import json
from dataclasses import dataclass

from jupyter_wire.messages import DELIMITER, execute_content, join_v1, make_header


@dataclass(frozen=True)
class Request:
    """One request on the shell channel."""

    msg_id: str
    kind: str
    header: bytes
    content: bytes

    @property
    def mark(self) -> bytes:
        """The text that every answer to this request contains, and no other message."""
        return self.msg_id.encode()

    @property
    def reply(self) -> bytes:
        """The text that its reply contains besides."""
        return b'"' + self.kind.replace("_request", "_reply").encode() + b'"'


IDLE = b'"idle"'
"""The text that the last message of a request on iopub contains besides."""


def make_request(kind: str, content: dict[str, object], session: str) -> Request:
    """Make a request with a fresh id."""
    header = make_header(kind, session, "bench")
    return Request(
        header["msg_id"], kind, json.dumps(header).encode(), json.dumps(content).encode()
    )


def execute_request(code: str, session: str) -> Request:
    """Make the request that runs `code`."""
    return make_request("execute_request", execute_content(code, store_history=False), session)


def encode_zmq(request: Request, key: bytes) -> list[bytes]:
    """Return the frames of a request on a DEALER socket."""
    parts = [request.header, b"{}", b"{}", request.content]
    return [DELIMITER, hmac.digest(key, b"".join(parts), "sha256").hex().encode(), *parts]


def encode_v1(request: Request) -> bytes:
    """Return the binary WebSocket message of a request."""
    return join_v1([b"shell", request.header, b"{}", b"{}", request.content])


def encode_legacy(request: Request) -> bytes:
    """Return the text WebSocket message of a request."""
    return (
        b'{"channel":"shell","parent_header":{},"metadata":{},"buffers":[],"header":'
        + request.header
        + b',"content":'
        + request.content
        + b"}"
    )
