"""The HTTP/1.1 connection: aiohttp's, with limits on unfinished requests."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import LineTooLong

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.connection_quota import ConnectionQuota
from enterprise_gateway.services.keepalive import keep_transport_alive
from enterprise_gateway.services.request_scope import (
    REQUEST_ID_HEADER,
    RequestScope,
    choose_request_id,
    serving,
)
from enterprise_gateway.web.accesslog import SCOPE
from enterprise_gateway.web.draining import RequestDrain
from enterprise_gateway.web.errors import ErrorResponse, gateway_error_response

FIRST_REQUEST_SECONDS = 10.0
"""How long a new connection may take to send the header of a request."""
KEEPALIVE_SECONDS = 75.0
"""How long a connection may be idle between requests."""

COMMON_HEADERS = {"Server": "EnterpriseGateway", "X-Content-Type-Options": "nosniff"}
"""The headers of every response; `Server` names no version, which would help an attacker."""

LINGERING_SECONDS = 5.0
MAX_LINE_BYTES = 16 * 1024
MAX_FIELD_BYTES = 16 * 1024

_PROBES = ("/healthz", "/readyz")
_CONTINUE = "100-continue"
_UNSAFE_BYTES = re.compile(rb"[\x80-\xff ]")

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """One client connection.

    Attributes:
        address: The peer's address for the quota of idle connections; "" for no quota.
        opening: The task that opens the connection, until it is open: TLS may take a while.
        is_reserve: Whether its descriptor is one that is kept for probes.
    """

    def __init__(
        self,
        server: web.Server,
        drain: RequestDrain,
        idle: "ConnectionQuota[Connection]",
        *,
        loop: asyncio.AbstractEventLoop,
        access_log_class: type[AbstractAccessLogger],
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGERING_SECONDS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            access_log_class=access_log_class,
            auto_decompress=False,
        )
        self.address = ""
        self.opening: asyncio.Task[None] | None = None
        self.is_reserve = False
        self._drain = drain
        self._idle = idle
        self._is_counted = False
        self._deadline: asyncio.TimerHandle | None = None
        self._line: bytes | None = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve a client, with TCP keepalive in case its machine loses its power."""
        super().connection_made(transport)
        self.opening = None
        keep_transport_alive(transport)
        self._drain.count_connections(1)
        self._is_counted = True
        self._deadline = asyncio.get_running_loop().call_later(
            FIRST_REQUEST_SECONDS, self.force_close
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        """Record the end of the connection; a spliced one gets this call twice."""
        super().connection_lost(exc)
        self.begin_request()
        if self._is_counted:
            self._is_counted = False
            self._drain.count_connections(-1)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, after repairing the first request line."""
        if self._line is None:
            super().data_received(data)
            return
        self._line += data
        end = self._line.find(b"\n")
        if end < 0 and len(self._line) <= MAX_LINE_BYTES:
            return
        received, self._line = self._line, None
        super().data_received(repair_request_line(received[:end]) + received[end:])

    def begin_request(self) -> None:
        """Mark the connection as busy: the header of a request is complete."""
        self._idle.release(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def log_access(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float | None
    ) -> None:
        """Log an answered request and mark the connection as idle."""
        super().log_access(request, response, time)
        self.begin_request()  # malformed requests have not called it
        if self.transport is not None and not self.transport.is_closing():
            evicted = self._idle.admit(self, self.address)
            if evicted is not None:
                evicted.drop()

    def drop(self) -> None:
        """Close the connection at once."""
        if self.opening is not None:
            self.opening.cancel()
        elif self.transport is not None:
            self.transport.abort()

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """Return the refusal of a request that no handler may serve, None for all others."""
        if self.is_reserve and not request.path.endswith(_PROBES):
            error = UnavailableError("The gateway has no file descriptor left for this connection.")
            response = gateway_error_response(error)
            response.force_close()
        elif request.headers.get("Expect", _CONTINUE).lower() != _CONTINUE:
            response = ErrorResponse(
                HTTPStatus.EXPECTATION_FAILED, "Only Expect: 100-continue is understood."
            )
        else:
            return None
        response.headers.update(COMMON_HEADERS)
        response.headers[REQUEST_ID_HEADER] = request[SCOPE].request_id
        return response

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that is not HTTP, or a failure of aiohttp itself.

        aiohttp's message quotes the client's bytes, which may hold a token, so neither the answer
        nor the log has it.

        Raises:
            ConnectionError: The client is gone, or a response has begun already.
        """
        del message
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("the client is gone, or a response has begun") from exc
        scope = request.setdefault(SCOPE, RequestScope(choose_request_id(None)))
        if isinstance(exc, LineTooLong):
            response = ErrorResponse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's header is too large."
            )
        elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
            response = ErrorResponse(HTTPStatus(status), "The request is not valid HTTP/1.1.")
        else:
            with serving(scope):
                _log.error("A request from %s failed", request.remote, exc_info=exc)
            response = ErrorResponse(HTTPStatus(status))
        response.headers.update(COMMON_HEADERS)
        response.headers[REQUEST_ID_HEADER] = scope.request_id
        response.force_close()
        return response


def with_scope(handle: Handle) -> Handle:
    """Wrap the handler of a `Connection` so that each request has a scope."""

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        if not isinstance(connection, Connection):
            raise TypeError("a Connection is needed")
        connection.begin_request()
        offered = request.headers.get(REQUEST_ID_HEADER)
        scope = request[SCOPE] = RequestScope(choose_request_id(offered))
        with serving(scope):
            return connection.refusal(request) or await handle(request)

    return serve


def repair_request_line(line: bytes) -> bytes:
    r"""Percent-encode UTF-8 and spaces in a query, which jupyter_server sends as they are.

    Its gateway client puts `KERNEL_USERNAME` there. Only the target grows, so the request ends
    where it would have ended (RFC 9112 section 3.2 has a server reject such a line, or redirect).

    Args:
        line: The line without its line feed, such as `GET /a?user=josé HTTP/1.1`.
    """
    if line.isascii() and line.count(b" ") <= 2:
        return line
    method, _, rest = line.partition(b" ")
    target, space, version = rest.rpartition(b" ")
    path, mark, query = target.partition(b"?")
    if b" " in path or not version.startswith(b"HTTP/1."):
        return line
    quoted = _UNSAFE_BYTES.sub(lambda found: b"%%%02X" % found[0][0], path + mark + query)
    return method + b" " + quoted + space + version
