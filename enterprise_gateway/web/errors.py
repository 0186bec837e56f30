"""How errors look to clients: a table from class to status, a body `{"reason", "message"}`.

Nothing here lets a traceback, a token or an environment value out: the text of a `GatewayError` is
written for clients, everything
else is replaced.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from enterprise_gateway.errors import (
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    GatewayError,
    InvalidRequestError,
    LaunchError,
    LaunchTimeoutError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.web.accesslog import scrub_path

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUS: dict[type[GatewayError], HTTPStatus] = {
    InvalidRequestError: HTTPStatus.BAD_REQUEST,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    LaunchError: HTTPStatus.INTERNAL_SERVER_ERROR,
    LaunchTimeoutError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Complete: a class that is not here is a bug, which a test finds."""

_log = logging.getLogger(__name__)


def error_response(status: HTTPStatus, message: str = "") -> web.Response:
    """Make the response for an error.

    Args:
        status: Its phrase is the body's `reason`.
        message: What happened and what to do, for the person who reads it.
    """
    return web.json_response({"reason": status.phrase, "message": message}, status=status)


def gateway_error_response(error: GatewayError) -> web.Response:
    """Make the response for an error of this package.

    It has `Retry-After` (RFC 9110 section 10.2.3) where trying again makes sense.
    """
    status = next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
    response = error_response(status, str(error))
    if isinstance(error, UnavailableError):
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return response


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into a response, cancellation excepted."""
    try:
        return await handler(request)
    except GatewayError as exc:
        response = gateway_error_response(exc)
    except web.HTTPException as exc:
        response = _answer_http_exception(exc)
    except ConnectionError:
        raise  # the client is gone; aiohttp closes what is left
    except Exception:  # noqa: BLE001 - the root of every request: nothing else may reach the client
        _log.exception("%s %s failed", request.method, scrub_path(request.rel_url.raw_path))
        response = error_response(
            HTTPStatus.INTERNAL_SERVER_ERROR, "Unexpected error; the gateway's log has the details."
        )
    return response


def _answer_http_exception(exc: web.HTTPException) -> web.Response:
    """Give an exception of aiohttp our shape; its headers (`Allow`, `Location`) stay."""
    if exc.status < HTTPStatus.BAD_REQUEST:
        raise exc
    try:
        status = HTTPStatus(exc.status)
    except ValueError:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    message = {
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request's body is too large.",
        HTTPStatus.METHOD_NOT_ALLOWED: "The resource does not have this method.",
    }.get(status, "")
    response = error_response(status, message)
    for name in ("Allow", "Retry-After"):
        if name in exc.headers:
            response.headers[name] = exc.headers[name]
    return response
