"""Error responses: a table from class to status, and a body `{"reason", "message"}`.

No traceback, token or environment value gets out: the text of a `GatewayError` is written for
clients, every other text is replaced.
"""

import json
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
    PreparingError,
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
    PreparingError: HTTPStatus.SERVICE_UNAVAILABLE,
    LaunchError: HTTPStatus.INTERNAL_SERVER_ERROR,
    LaunchTimeoutError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The status of every error class; a test finds a class that is missing."""

_log = logging.getLogger(__name__)


class ErrorResponse(web.Response):
    """The response for an error.

    Attributes:
        message: What happened and what to do, for the person who reads it; "" if the status says
            all.
    """

    def __init__(self, status: HTTPStatus, message: str = "") -> None:
        text = json.dumps({"reason": status.phrase, "message": message})
        super().__init__(text=text, status=status, content_type="application/json")
        self.message = message


def gateway_error_response(error: GatewayError) -> ErrorResponse:
    """Make the response for an error of this package.

    It has `Retry-After` (RFC 9110 section 10.2.3) if the same request may succeed later.
    """
    status = next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
    response = ErrorResponse(status, str(error))
    if isinstance(error, UnavailableError):
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return response


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception of a handler into a response, cancellation excepted."""
    try:
        return await handler(request)
    except GatewayError as exc:
        response = gateway_error_response(exc)
    except web.HTTPException as exc:
        response = _answer_http_exception(exc)
    except ConnectionError:
        raise  # the client is gone; aiohttp closes what is left
    except Exception:  # noqa: BLE001 - the root of every request: no exception may reach the client
        _log.exception("%s %s failed", request.method, scrub_path(request.rel_url.raw_path))
        response = ErrorResponse(
            HTTPStatus.INTERNAL_SERVER_ERROR, "Unexpected error; the gateway's log has the details."
        )
    return response


def _answer_http_exception(exc: web.HTTPException) -> ErrorResponse:
    """Return the response for an exception of aiohttp, with the headers that clients need."""
    if exc.status < HTTPStatus.BAD_REQUEST:
        raise exc
    try:
        status = HTTPStatus(exc.status)
    except ValueError:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    message = {
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request's body exceeds max_body_bytes.",
        HTTPStatus.METHOD_NOT_ALLOWED: "This resource does not support the request's method.",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Send the request's body without Content-Encoding.",
        HTTPStatus.REQUEST_TIMEOUT: "The request's body did not arrive in time.",
    }.get(status, "")
    response = ErrorResponse(status, message)
    for name in ("Accept-Encoding", "Allow", "Retry-After"):
        if name in exc.headers:
            response.headers[name] = exc.headers[name]
    return response
