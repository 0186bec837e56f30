"""What a proxy in front says of the client, read as tornado does with `xheaders`. Pure."""

import ipaddress
from collections.abc import Mapping

from aiohttp import web

REMOTE: web.RequestKey[str] = web.RequestKey("remote", str)
"""The client's address as the proxy gave it, for the access log."""


def forwarded_remote(headers: Mapping[str, str]) -> str | None:
    """Return the client's address, None if there is none.

    `X-Real-IP` counts, else the last of `X-Forwarded-For`.
    """
    forwarded = headers.get("X-Forwarded-For", "").rpartition(",")[2]
    text = headers.get("X-Real-IP", forwarded).strip()
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return None
    return text


def forwarded_scheme(headers: Mapping[str, str]) -> str | None:
    """Return the client's scheme, None if there is none.

    `X-Scheme` counts, else the last of `X-Forwarded-Proto`.
    """
    forwarded = headers.get("X-Forwarded-Proto", "").rpartition(",")[2]
    text = headers.get("X-Scheme", forwarded).strip().lower()
    return text if text in {"http", "https"} else None


def apply_forwarded(request: web.Request) -> web.Request:
    """Return the request as the proxy in front received it."""
    remote = forwarded_remote(request.headers) or request.remote or ""
    request[REMOTE] = remote
    return request.clone(remote=remote, scheme=forwarded_scheme(request.headers) or request.scheme)
