"""Rewrites the WebSocket handshake between client and agent. Pure.

The gateway turns the client's request into one for the agent, and passes the agent's answer back.
Client and agent agree on accept key, subprotocol and extensions by themselves (RFC 6455 section 4).
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from enterprise_gateway.errors import (
    ConflictError,
    ForbiddenError,
    GatewayError,
    InvalidRequestError,
    UnavailableError,
)
from enterprise_gateway.services.kernels.agents.state import failure_message

HEAD_END = b"\r\n\r\n"
MAX_HEAD_BYTES = 64 * 1024
SWITCHING_PROTOCOLS = 101

REPLAY_MAX_CHARS = 1024

_PARAMETERS = ("session_id", "replay")
_FORWARDED = frozenset({"user-agent", "origin"})
_FORWARDED_PREFIX = "sec-websocket-"
_STATUS = re.compile(rb"[1-9]\d\d")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*")
"""A header field of an answer, RFC 9110 section 5, without obsolete forms."""


def check_upgrade(headers: Mapping[str, str]) -> None:
    """Check that a request asks for an upgrade to a WebSocket.

    Raises:
        InvalidRequestError: it does not ask for that.
    """
    if headers.get("Upgrade", "").strip().lower() != "websocket":
        raise InvalidRequestError('Can "Upgrade" only to "WebSocket".')
    options = {option.strip().lower() for option in headers.get("Connection", "").split(",")}
    if "upgrade" not in options:
        raise InvalidRequestError('"Connection" must be "Upgrade".')


def agent_target(query: Mapping[str, str], client: Mapping[str, str]) -> str:
    """Return path and query of the upgrade request to an agent.

    The path for a client that is there by a share is another one: an agent that cannot hold it to
    that does not know the path, and refuses.

    Args:
        query: the client's parameters, of which the agent gets `session_id` and `replay`.
        client: the parameters that tell the agent who it is: see `identify_client`.

    Raises:
        InvalidRequestError: `replay` is too long.
    """
    passed = {name: query[name] for name in _PARAMETERS if query.get(name)}
    if len(passed.get("replay", "")) > REPLAY_MAX_CHARS:
        raise InvalidRequestError(f'"replay" must have at most {REPLAY_MAX_CHARS} characters.')
    path = "/v1/shared/channels" if "grant" in client else "/v1/channels"
    passed |= client
    return f"{path}?{urlencode(passed)}" if passed else path


def upgrade_request(headers: Iterable[tuple[str, str]], target: str, token: str) -> bytes:
    """Return the head of the upgrade request to an agent.

    Args:
        headers: the client's. Those of the handshake, `Origin` and `User-Agent` are passed on;
            credentials and cookies are not.
        target: see `agent_target`.
        token: the agent's.
    """
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: agent",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Authorization: Bearer {token}",
    ]
    for name, value in headers:
        lowered = name.lower()
        if lowered in _FORWARDED or lowered.startswith(_FORWARDED_PREFIX):
            lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape")


def answer_status(head: bytes) -> int:
    """Return the status code of a response's head, 0 if it is not HTTP."""
    parts = head.split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not _STATUS.fullmatch(parts[1]):
        return 0
    return int(parts[1])


def clean_head(head: bytes) -> bytes:
    """Return the head of an agent's 101 for the client, with the fields of the handshake only.

    Agents are not trusted: cookies and CORS headers of theirs do not reach the client.

    Raises:
        UnavailableError: the head is malformed.
    """
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    for line in head.removesuffix(HEAD_END).split(b"\r\n")[1:]:
        if not _FIELD.fullmatch(line):
            raise UnavailableError("The kernel's agent sent a malformed answer to the upgrade")
        if line.lower().startswith(_FORWARDED_PREFIX.encode()):
            lines.append(line)
    return b"\r\n".join(lines) + HEAD_END


def refusal(status: int, body: bytes) -> GatewayError:
    """Return the error for a client whose upgrade an agent refused."""
    message = failure_message(body)
    if status == 403:
        return ForbiddenError(message or "You may not use this kernel any more.")
    if status == 404:
        return ConflictError(
            "The kernel's agent is older than this gateway and cannot serve kernels that are "
            "shared: its owner has to start a new kernel."
        )
    if status in {400, 426}:
        return InvalidRequestError(message or "Malformed WebSocket handshake")
    return UnavailableError(
        f"The kernel's agent refused the connection (status {status}). {message}"
    )
