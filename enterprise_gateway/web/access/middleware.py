"""Access: certificate, user, scope, origin and authorizer of a request."""

import asyncio
from collections.abc import Collection

from aiohttp import HttpVersion11, web

from enterprise_gateway.errors import ForbiddenError, InvalidRequestError
from enterprise_gateway.services.api.handlers import PUBLIC_PATHS
from enterprise_gateway.services.request_scope import set_client
from enterprise_gateway.services.users import SHARED, USER
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.access.authentication import ACCEPTED_TOKEN, Authentication
from enterprise_gateway.web.access.authorization import Authorizer, require_permission
from enterprise_gateway.web.access.cors import is_host_local, is_loopback, is_origin_allowed
from enterprise_gateway.web.access.scopes import require_scope
from enterprise_gateway.web.access.xheaders import (
    forwarded_remote,
    forwarded_scheme,
    is_trusted,
)
from enterprise_gateway.web.accesslog import REMOTE
from enterprise_gateway.web.connections.tls import names_host
from enterprise_gateway.web.errors import Handler
from enterprise_gateway.web.mount import route_path

BODY_TIMEOUT_SECONDS = 30.0
"""How long a request's body may take to arrive; 408 after that."""


class AuthMiddleware:
    """Passes permitted requests to the handlers and refuses all others.

    Probes, preflight requests and unknown paths, whose 404 tells nothing, need no authentication.
    Without authentication, pages of other sites are refused as jupyter_server does: with 404, or
    403 for a WebSocket. They are refused, too, if a user is known by a certificate or a proxy,
    since browsers add the one, and cookies for the other, to what other sites ask for. With a token
    the origin does not matter: browsers never add it by themselves.
    """

    def __init__(
        self,
        live: LiveSettings,
        authentication: Authentication,
        authorizer: Authorizer | None,
        public_paths: Collection[str] = PUBLIC_PATHS,
    ) -> None:
        """Permit nothing yet.

        Args:
            live: The settings.
            authentication: Finds out who sends a request.
            authorizer: Of the site, if it has one.
            public_paths: Those that need no authentication, relative to the base URL.
        """
        self._live = live
        self._authentication = authentication
        self._authorizer = authorizer
        self._public_paths = public_paths

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a request, or read its body and pass it on."""
        settings = self._live.current
        peer = request.remote or ""
        if is_trusted(settings.server, peer):
            request = _apply_forwarded(request)
        self._require_certificate(request)
        failure = request.match_info.http_exception
        if request.method == "OPTIONS" and not isinstance(failure, web.HTTPNotFound):
            return web.Response()
        if failure is not None:
            raise failure
        path = route_path(request, settings.server.base_url)
        request[USER] = SHARED
        if path not in self._public_paths:
            if not settings.is_authentication_on:
                self._require_own_host(request)
                self._require_own_page(request)
            else:
                refusal = await self._authentication.authenticate(request, peer)
                if refusal is not None:
                    return refusal
                if not request[ACCEPTED_TOKEN]:
                    self._require_chosen_page(request)
            user = request[USER]
            if user.is_named:
                set_client(user.username, user.credential)
            require_scope(user, path)
            await require_permission(self._authorizer, request, path)
            await self._read_body(request)
        return await handler(request)

    def _require_own_host(self, request: web.Request) -> None:
        """Refuse a request that a browser may make for a site whose name leads here.

        Raises:
            ForbiddenError: Its `Host` is a name that another site's DNS may have pointed here.
        """
        settings = self._live.current
        host = request.headers.get("Host")
        names = settings.server.local_hostnames
        if host and is_loopback(settings.server.ip) and not is_host_local(host, names):
            raise ForbiddenError(
                "Without a token, a gateway on a loopback address answers only requests for an IP "
                "address, localhost, and the names in local_hostnames (EG_LOCAL_HOSTNAMES)."
            )

    def _require_own_page(self, request: web.Request) -> None:
        """Refuse a request that a browser makes for a page of another site.

        Raises:
            HTTPForbidden: A page of another site asks for a WebSocket.
            HTTPNotFound: A page of another site asks for anything else.
        """
        if not is_origin_allowed(request.headers, self._live.current.access.allow_origin):
            is_upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
            raise web.HTTPForbidden if is_upgrade else web.HTTPNotFound

    def _require_chosen_page(self, request: web.Request) -> None:
        """Refuse what a page makes a user do whom a certificate or a proxy has named.

        `*` allows no page here: it means all that have a token.

        Raises:
            ForbiddenError: The page is neither the gateway's own nor the one of `allow_origin`.
        """
        allowed = self._live.current.access.allow_origin
        if not is_origin_allowed(request.headers, "" if allowed == "*" else allowed):
            raise ForbiddenError(
                "A page of another site made this request in the user's name. If that is your own "
                "page, set allow_origin (EG_ALLOW_ORIGIN) to its origin; if it is the gateway's, "
                "let the proxy in front pass the Host header on."
            )

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
