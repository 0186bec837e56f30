"""The WebSocket handshake as it passes through the gateway: pure.

The gateway takes no part in it. It makes a request for the agent out of the client's, and passes
the agent's answer back; the accept key, the subprotocol and extensions are between the two of them
(RFC 6455 section 4).
"""

from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

import msgspec

from enterprise_gateway.errors import GatewayError, InvalidRequestError, UnavailableError

HEAD_END = b"\r\n\r\n"
MAX_HEAD_BYTES = 64 * 1024
SWITCHING_PROTOCOLS = 101

_FORWARDED = frozenset({"user-agent", "origin"})
_FORWARDED_PREFIX = "sec-websocket-"


def check_upgrade(headers: Mapping[str, str]) -> None:
    """Check that a request wants to become a WebSocket.

    Raises:
        InvalidRequestError: it does not.
    """
    if headers.get("Upgrade", "").strip().lower() != "websocket":
        raise InvalidRequestError('Can "Upgrade" only to "WebSocket".')
    options = {option.strip().lower() for option in headers.get("Connection", "").split(",")}
    if "upgrade" not in options:
        raise InvalidRequestError('"Connection" must be "Upgrade".')


def upgrade_request(
    headers: Iterable[tuple[str, str]], session_id: str | None, token: str
) -> bytes:
    """Return the head of the upgrade request to an agent.

    Args:
        headers: the client's. Of them only those of the handshake and the User-Agent are passed on:
            what a client says of itself is nobody's business but the gateway's.
        session_id: the client's, if it gave one.
        token: the agent's.
    """
    query = f"?{urlencode({'session_id': session_id})}" if session_id else ""
    lines = [
        f"GET /v1/channels{query} HTTP/1.1",
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
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        return 0
    return int(parts[1])


def refusal(status: int, body: bytes) -> GatewayError:
    """Return the error for a client whose upgrade an agent refused."""
    message = _message(body)
    if status in {400, 426}:
        return InvalidRequestError(message or "Malformed WebSocket handshake")
    return UnavailableError(
        f"The kernel's agent refused the connection (status {status}). {message}"
    )


class _Failure(msgspec.Struct):
    message: str = ""


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Failure).message
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
