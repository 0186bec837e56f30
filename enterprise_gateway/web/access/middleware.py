"""Authentication and authorization: certificate, token, origin and authorizer of a request."""

import asyncio
from http import HTTPStatus

from aiohttp import HttpVersion11, web

from enterprise_gateway.errors import ForbiddenError, InvalidRequestError
from enterprise_gateway.services.api.handlers import PUBLIC_PATHS
from enterprise_gateway.services.users import SHARED, USER
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.access.authorization import Authorizer, require_permission
from enterprise_gateway.web.access.cors import is_host_local, is_loopback, is_origin_allowed
from enterprise_gateway.web.access.tokens import describe_tokens, is_authenticated
from enterprise_gateway.web.access.xheaders import (
    forwarded_remote,
    forwarded_scheme,
    is_trusted,
)
from enterprise_gateway.web.accesslog import REMOTE
from enterprise_gateway.web.connections.tls import names_host
from enterprise_gateway.web.errors import ErrorResponse, Handler
from enterprise_gateway.web.mount import route_path

BODY_TIMEOUT_SECONDS = 30.0
"""How long a request's body may take to arrive; 408 after that."""


class AuthMiddleware:
    """Passes permitted requests to the handlers and refuses all others.

    Probes, preflight requests and unknown paths, whose 404 tells nothing, need no token. Without a
    configured token, pages of other sites are refused as jupyter_server does: with 404, or 403 for
    a WebSocket. With a token the origin does not matter: there are no cookies, so a browser never
    adds a credential by itself.
    """

    def __init__(self, live: LiveSettings, authorizer: Authorizer | None) -> None:
        self._live = live
        self._authorizer = authorizer

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a request, or read its body and pass it on."""
        settings = self._live.current
        if is_trusted(settings.server, request.remote or ""):
            request = _apply_forwarded(request)
        self._require_certificate(request)
        failure = request.match_info.http_exception
        if request.method == "OPTIONS" and not isinstance(failure, web.HTTPNotFound):
            return web.Response()
        if failure is not None:
            raise failure
        path = route_path(request, settings.server.base_url)
        request[USER] = SHARED
        if path not in PUBLIC_PATHS:
            expected = settings.access.auth_token
            if not expected:
                self._require_own_page(request)
            elif not is_authenticated(request, expected):
                response = ErrorResponse(HTTPStatus.UNAUTHORIZED, describe_tokens(request))
                response.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 section 15.5.2
                return response
            await require_permission(self._authorizer, request, path)
            await self._read_body(request)
        return await handler(request)

    def _require_own_page(self, request: web.Request) -> None:
        """Refuse a request that a browser makes for a page of another site.

        Raises:
            ForbiddenError: Its `Host` is a name that another site's DNS may have pointed here.
            HTTPForbidden: A page of another site asks for a WebSocket.
            HTTPNotFound: A page of another site asks for anything else.
        """
        settings = self._live.current
        host = request.headers.get("Host")
        names = settings.server.local_hostnames
        if host and is_loopback(settings.server.ip) and not is_host_local(host, names):
            raise ForbiddenError(
                "Without a token, a gateway on a loopback address answers only requests for an IP "
                "address, localhost, and the names in local_hostnames (EG_LOCAL_HOSTNAMES)."
            )
        if not is_origin_allowed(request.headers, settings.access.allow_origin):
            is_upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
            raise web.HTTPForbidden if is_upgrade else web.HTTPNotFound

    def _require_certificate(self, request: web.Request) -> None:
        expected = self._live.current.server.authorized_origin
        if expected and not names_host(request.get_extra_info("peercert"), expected):
            raise ForbiddenError("The client's certificate does not carry the authorized name.")

    async def _read_body(self, request: web.Request) -> None:
        """Read the body under a deadline, so that handlers find it in memory.

        Raises:
            HTTPUnsupportedMediaType: It is compressed: a small body would become a large one.
            HTTPRequestEntityTooLarge: It exceeds `max_body_bytes`.
            HTTPRequestTimeout: It did not arrive in time.
            InvalidRequestError: It is malformed.
        """
        if not request.can_read_body:
            return
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise web.HTTPUnsupportedMediaType(headers={"Accept-Encoding": "identity"})
        if request.headers.get("Expect") and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # this was no part of the response
        try:
            async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
                await request.read()
        except TimeoutError as exc:
            raise web.HTTPRequestTimeout from exc
        except web.RequestPayloadError as exc:
            raise InvalidRequestError("The request's body is malformed.") from exc


def _apply_forwarded(request: web.Request) -> web.Request:
    """Return the request as the proxy in front received it."""
    remote = forwarded_remote(request.headers) or request.remote or ""
    request[REMOTE] = remote
    return request.clone(remote=remote, scheme=forwarded_scheme(request.headers) or request.scheme)
