"""The access log: one line a request, which never holds a query string or a token."""

import logging
import re
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from enterprise_gateway.services.request_scope import RequestScope

SCOPE: web.RequestKey[RequestScope] = web.RequestKey("scope", RequestScope)
REMOTE: web.RequestKey[str] = web.RequestKey("remote", str)
"""The client's address as a trusted proxy in front gave it."""

_POLLS = re.compile(
    r".*/(?:healthz|readyz|metrics|api/(?:status|sessions|kernelspecs|kernels(?:/[^/]+)?))"
)
"""Paths that clients, probes and scrapers poll, below any base URL."""

_log = logging.getLogger("enterprise_gateway.access")
_TOKEN_SEGMENT = re.compile(r"(?:^|(?<=/))(?:t|%74)/[^/]+")


def scrub_path(path: str) -> str:
    """Return a path without its query and without the token of the path-prefix form."""
    return _TOKEN_SEGMENT.sub("t/<token>", path.partition("?")[0])


class AccessLog(AbstractAccessLogger):
    """Logs polls at DEBUG, other successes at INFO, client errors at WARNING, ours at ERROR."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log a request that took `time` seconds."""
        path = scrub_path(request.rel_url.raw_path)
        scope = request.get(SCOPE, RequestScope(""))
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            level = logging.ERROR
        elif response.status >= HTTPStatus.BAD_REQUEST:
            level = logging.WARNING
        elif request.method in {"GET", "HEAD"} and _POLLS.fullmatch(path):
            level = logging.DEBUG
        else:
            level = logging.INFO
        _log.log(
            level,
            "%d %s %s (%s) %.2f ms",
            response.status,
            request.method,
            path,
            request.get(REMOTE, request.remote),
            time * 1000,
            extra={"request_id": scope.request_id, **({"user": scope.user} if scope.user else {})},
        )
