"""Finds the tokens of a request and compares them with the gateway's.

Jupyter clients send `Authorization: token <t>` or `Bearer <t>`; browsers, which cannot set headers
on a WebSocket, `?token=<t>`; a client that can set nothing but a URL may put `t/<t>/` between the
base URL and the path. Clients that know HTTP Basic only (RFC 7617), such as jupyter_server with
`JUPYTER_GATEWAY_HTTP_USER`, send it as the password of any user.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterator
from itertools import islice

from aiohttp import web

from enterprise_gateway.web.mount import CREDENTIAL_VARIABLE

MAX_TOKENS = 4
"""How many tokens of one request are compared, so that a request is no way to try hundreds."""

_HEADER = re.compile(r"\s*(token|bearer|basic)\s+(.+?)\s*", re.IGNORECASE)
_FORMS = (
    "Send the gateway's token as 'Authorization: token TOKEN' (or 'Bearer TOKEN', or the password "
    "of HTTP Basic), as '?token=TOKEN', or as '/t/TOKEN' before the path. Jupyter servers take it "
    "from JUPYTER_GATEWAY_AUTH_TOKEN."
)
_BASIC_HINT = (
    " The request has an HTTP Basic header, which a Jupyter server sends in place of the token "
    "while JUPYTER_GATEWAY_HTTP_USER is set: unset it."
)


def present_tokens(request: web.Request) -> Iterator[str]:
    """Yield the tokens that a request carries, at most `MAX_TOKENS`.

    Empty ones, which Jupyter's gateway client sends when it has none, are left out.
    """
    return islice(filter(None, _all_tokens(request)), MAX_TOKENS)


def is_authenticated(request: web.Request, expected: str) -> bool:
    """Return whether one of a request's tokens is the expected one, compared in constant time."""
    wanted = expected.encode()
    return any(
        hmac.compare_digest(token.encode("utf-8", "surrogateescape"), wanted)
        for token in present_tokens(request)
    )


def describe_tokens(request: web.Request) -> str:
    """Return the message for an unauthenticated client: the cause, and where a token goes."""
    has_token = any(present_tokens(request))
    cause = "The token of the request is wrong." if has_token else "The request has no token."
    scheme, _ = _credentials(request)
    return f"{cause} {_FORMS}{_BASIC_HINT if scheme == 'basic' else ''}"


def _all_tokens(request: web.Request) -> Iterator[str]:
    scheme, credentials = _credentials(request)
    yield _password(credentials) if scheme == "basic" else credentials
    yield request.match_info.get(CREDENTIAL_VARIABLE, "")
    yield from request.query.getall("token", ())


def _credentials(request: web.Request) -> tuple[str, str]:
    match = _HEADER.fullmatch(request.headers.get("Authorization", ""))
    return (match[1].lower(), match[2]) if match else ("", "")


def _password(credentials: str) -> str:
    try:
        text = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[2]
