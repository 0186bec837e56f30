"""The gate that every request passes: certificate, preflight, token, origin, authorizer."""

import asyncio
from http import HTTPStatus

from aiohttp import web

from enterprise_gateway.errors import ForbiddenError, InvalidRequestError
from enterprise_gateway.services.api.handlers import PUBLIC_PATHS
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.authorization import Authorizer, require_permission
from enterprise_gateway.web.cors import is_origin_allowed
from enterprise_gateway.web.errors import Handler, error_response
from enterprise_gateway.web.tls import names_host
from enterprise_gateway.web.tokens import TOKEN_PREFIX, is_authenticated
from enterprise_gateway.web.xheaders import apply_forwarded

BODY_TIMEOUT_SECONDS = 30.0
"""Within which a request's body must have arrived; 408 after it."""


class Gate:
    """Lets through to the handlers only what may pass.

    Probes, preflight requests and unknown paths (whose answer tells nothing) pass without a token.
    A foreign page is refused as
    jupyter_server does: 404, or 403 for a WebSocket. With a token it is no matter where the page
    came from: there are no cookies,
    so a browser never adds a credential by itself.
    """

    def __init__(self, live: LiveSettings, authorizer: Authorizer | None) -> None:
        self._live = live
        self._authorizer = authorizer

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer the request, or pass it on with its body read."""
        settings = self._live.current
        if settings.server.trust_xheaders:
            request = apply_forwarded(request)
        self._require_certificate(request)
        failure = request.match_info.http_exception
        if request.method == "OPTIONS" and not isinstance(failure, web.HTTPNotFound):
            return web.Response()
        if failure is not None:
            raise failure
        path = self._route_path(request)
        if path not in PUBLIC_PATHS:
            expected = settings.access.auth_token
            if expected:
                if not is_authenticated(request, expected):
                    response = error_response(HTTPStatus.UNAUTHORIZED)
                    response.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 section 15.5.2
                    return response
            elif not is_origin_allowed(request.headers, settings.access.allow_origin):
                is_upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
                return error_response(HTTPStatus.FORBIDDEN if is_upgrade else HTTPStatus.NOT_FOUND)
            await require_permission(self._authorizer, request, path)
        await self._read_body(request)
        return await handler(request)

    def _require_certificate(self, request: web.Request) -> None:
        expected = self._live.current.server.authorized_origin
        if expected and not names_host(request.get_extra_info("peercert"), expected):
            raise ForbiddenError("The client's certificate does not carry the authorized name.")

    def _route_path(self, request: web.Request) -> str:
        """Return the path of the request's route without base URL and token, a slash in front.

        It is the route's pattern, not what the client sent, so that nothing that a client can
        write makes one path look like another.
        """
        resource = request.match_info.route.resource
        if resource is None:
            raise AssertionError("a request that found its handler has a route")
        path = resource.canonical.removeprefix(self._live.current.server.base_url.rstrip("/"))
        return path.removeprefix(TOKEN_PREFIX)

    async def _read_body(self, request: web.Request) -> None:
        """Read the body once, under a deadline, so that handlers find it in memory.

        Raises:
            HTTPRequestEntityTooLarge: It is longer than the application takes.
        """
        if not request.can_read_body:
            return
        try:
            async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
                await request.read()
        except TimeoutError as exc:
            raise web.HTTPRequestTimeout from exc
        except web.RequestPayloadError as exc:
            raise InvalidRequestError("The request's body is malformed.") from exc
