"""One line a request: method, path, status, duration. Never a query string or a token."""

import logging
import re
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from enterprise_gateway.web.xheaders import REMOTE

_log = logging.getLogger("enterprise_gateway.access")
_TOKEN_SEGMENT = re.compile(r"(?:^|(?<=/))(?:t|%74)/[^/]+")


def scrub_path(path: str) -> str:
    """Take the query away from a path, and the token of the path-prefix form out of it."""
    return _TOKEN_SEGMENT.sub("t/<token>", path.partition("?")[0])


class AccessLog(AbstractAccessLogger):
    """Probes at DEBUG, success at INFO, clients' errors at WARNING, ours at ERROR."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log one request, `time` seconds after it came."""
        path = scrub_path(request.rel_url.raw_path)
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            level = logging.ERROR
        elif response.status >= HTTPStatus.BAD_REQUEST:
            level = logging.WARNING
        elif path.endswith(("/healthz", "/readyz")):
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
        )
