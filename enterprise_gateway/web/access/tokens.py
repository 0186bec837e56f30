"""Finds the tokens of a request.

Jupyter clients send `Authorization: token <t>` or `Bearer <t>`; browsers, which cannot set headers
on a WebSocket, `?token=<t>`; a client that can set nothing but a URL may put `t/<t>/` between the
base URL and the path. Clients that know HTTP Basic only (RFC 7617), such as jupyter_server with
`JUPYTER_GATEWAY_HTTP_USER`, send it as the password of any user.
"""

import base64
import binascii
from collections.abc import Iterator
from itertools import islice

from aiohttp import web

from enterprise_gateway.web.mount import CREDENTIAL_VARIABLE

MAX_TOKENS = 4
"""How many tokens of one request are compared, so that a request is no way to try hundreds."""

_SCHEMES = frozenset({"token", "bearer", "basic"})


def present_tokens(request: web.Request) -> Iterator[str]:
    """Yield the different tokens that a request carries, at most `MAX_TOKENS`.

    Empty ones, which Jupyter's gateway client sends when it has none, are left out.
    """
    return islice(dict.fromkeys(filter(None, _all_tokens(request))), MAX_TOKENS)


def has_basic(request: web.Request) -> bool:
    """Return whether a request has credentials of HTTP Basic."""
    return _credentials(request)[0] == "basic"


def _all_tokens(request: web.Request) -> Iterator[str]:
    scheme, credentials = _credentials(request)
    yield _password(credentials) if scheme == "basic" else credentials
    yield request.match_info.get(CREDENTIAL_VARIABLE, "")
    yield from request.query.getall("token", ())


def _credentials(request: web.Request) -> tuple[str, str]:
    words = request.headers.get("Authorization", "").split(maxsplit=1)
    if len(words) < 2 or words[0].lower() not in _SCHEMES:
        return "", ""
    return words[0].lower(), words[1].rstrip()


def _password(credentials: str) -> str:
    try:
        text = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[2]
