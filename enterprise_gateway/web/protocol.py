"""The HTTP/1.1 connection: aiohttp's, but for what it answers to what is not HTTP."""

import asyncio
import logging
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import LineTooLong

from enterprise_gateway.services.keepalive import keep_transport_alive
from enterprise_gateway.web.draining import Drain
from enterprise_gateway.web.errors import error_response

KEEPALIVE_SECONDS = 75.0
"""An idle connection is closed after so long, and one that never completes a header, too."""

COMMON_HEADERS = {"Server": "EnterpriseGateway", "X-Content-Type-Options": "nosniff"}
"""On every answer; `Server` tells no versions to those who look for known holes."""

LINGERING_SECONDS = 5.0
MAX_LINE_BYTES = 16 * 1024
MAX_FIELD_BYTES = 16 * 1024

_log = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """One client connection."""

    def __init__(
        self,
        server: web.Server,
        drain: Drain,
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
        )
        self._drain = drain
        self._is_counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve a client, whose machine may lose its power."""
        super().connection_made(transport)
        keep_transport_alive(transport)
        self._drain.count_connections(1)
        self._is_counted = True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note the end of the connection; a spliced one is told of it twice."""
        super().connection_lost(exc)
        if self._is_counted:
            self._is_counted = False
            self._drain.count_connections(-1)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what no handler could: bytes that are not HTTP, or a failure of aiohttp itself.

        aiohttp's message quotes the client's bytes, among which a token may be, so neither the
        answer nor the log has it.

        Raises:
            ConnectionError: The client is gone, or an answer is on its way already.
        """
        del message
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("nobody is there to read an answer") from exc
        if isinstance(exc, LineTooLong):
            response = error_response(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's header is too large."
            )
        elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
            response = error_response(HTTPStatus(status), "The request is not valid HTTP/1.1.")
        else:
            _log.error("A request from %s failed", request.remote, exc_info=exc)
            response = error_response(HTTPStatus(status))
        response.headers.update(COMMON_HEADERS)
        response.force_close()
        return response
