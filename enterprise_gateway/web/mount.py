"""Mounts routes below the base URL, with and without the path-prefix form of the token."""

import re

from aiohttp import web
from yarl import URL

from enterprise_gateway.web.errors import Handler

CREDENTIAL_VARIABLE = "access_token"
"""The variable of a route that holds the token of the path-prefix form."""

_BASE_VARIABLE = "base_url"
_TOKEN_PREFIX = f"/t/{{{CREDENTIAL_VARIABLE}}}"


def mount(routes: list[web.RouteDef], base_url: str) -> list[web.RouteDef]:
    """Return routes for the whole paths of routes that are relative to the base URL.

    `AuthMiddleware` answers `Expect: 100-continue`: it decides whether the body is wanted.
    """
    base = _pattern(base_url)
    return [_mount_at(prefix, route) for prefix in (base, base + _TOKEN_PREFIX) for route in routes]


def mount_entries(handler: Handler, base_url: str) -> list[web.RouteDef]:
    """Return routes for the root and for the base URL without its slash; none if that is `/`."""
    base = _pattern(base_url)
    return [_mount_at("", web.get(path, handler)) for path in ("/", base) if base]


def route_path(request: web.Request, base_url: str) -> str:
    """Return the path of a request's route without base URL and token, with a leading slash.

    It is the route's pattern rather than the client's path, so that no spelling of a path makes it
    look like another.
    """
    resource = request.match_info.route.resource
    if resource is None:
        raise AssertionError("a request that found its handler has a route")
    base = _pattern(base_url)
    if base.startswith("/{"):
        base = f"/{{{_BASE_VARIABLE}}}"
    return resource.canonical.removeprefix(base).removeprefix(_TOKEN_PREFIX)


def _mount_at(prefix: str, route: web.RouteDef) -> web.RouteDef:
    options = {**route.kwargs, "expect_handler": _expect_nothing}
    return web.RouteDef(route.method, prefix + route.path, route.handler, options)


def _pattern(base_url: str) -> str:
    """Return the pattern of a base URL, which matches every spelling of it.

    aiohttp compares its routes with the decoded path, but quotes the text of the routes themselves.
    It does not quote a variable.
    """
    decoded = URL(base_url).path_safe.rstrip("/")
    if URL.build(path=decoded).raw_path == decoded:
        return decoded
    return f"/{{{_BASE_VARIABLE}:{re.escape(decoded[1:])}}}"


async def _expect_nothing(_request: web.Request) -> None:
    """Send no interim answer."""
