"""Where clients put their token, and whether it is the right one.

Jupyter clients send `Authorization: token <t>` or `Bearer <t>`; browsers, which cannot set headers
on a WebSocket, `?token=<t>`; a client
that can set nothing but a URL may put `t/<t>/` between the base URL and the path.
"""

import hmac
import re
from collections.abc import Iterator

from aiohttp import web

_HEADER = re.compile(r"\s*(?:token|bearer)\s+(.+?)\s*", re.IGNORECASE)
PATH_VARIABLE = "access_token"
"""Name of the path-prefix form's variable in routes."""

TOKEN_PREFIX = f"/t/{{{PATH_VARIABLE}}}"
"""What stands before the path in such routes."""


def present_tokens(request: web.Request) -> Iterator[str]:
    """Yield every token that a request carries.

    An empty one, which Jupyter's gateway client sends when it has none, does not count.
    """
    match = _HEADER.fullmatch(request.headers.get("Authorization", ""))
    if match:
        yield match[1]
    yield from filter(None, request.query.getall("token", ()))
    in_path = request.match_info.get(PATH_VARIABLE)
    if in_path:
        yield in_path


def is_authenticated(request: web.Request, expected: str) -> bool:
    """Whether one of a request's tokens is the expected one; any wrong one takes the same time."""
    wanted = expected.encode()
    return any(
        hmac.compare_digest(token.encode("utf-8", "surrogateescape"), wanted)
        for token in present_tokens(request)
    )
