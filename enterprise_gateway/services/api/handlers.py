"""`/api`, `/api/status`, `/api/me`, `/api/swagger.*`, `/healthz`, `/readyz` and `/metrics`."""

import functools
import time
from collections.abc import Awaitable, Callable
from importlib import resources

from aiohttp import web

from enterprise_gateway._version import __version__
from enterprise_gateway.errors import InvalidRequestError, UnavailableError
from enterprise_gateway.services.api.exposition import render_metrics
from enterprise_gateway.services.api.readiness import missing_engines
from enterprise_gateway.services.bodies import decode_json, json_response
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.kernels.records import format_time
from enterprise_gateway.services.proxies import Proxies

Permits = Callable[[web.Request, str, str], Awaitable[bool]]
"""Whether the user of a request may do an action (`read`) on a resource (`kernels`)."""

PUBLIC_PATHS = frozenset({"/api", "/healthz", "/readyz"})
"""Paths, relative to the base URL, that answer without a token: probes have none."""

JUPYTER_SERVER_VERSION = "2.21.1"
"""The release of jupyter_server whose kernel interface this is; what `/api` calls `version`."""

ANONYMOUS = {
    "username": "anonymous",
    "name": "Anonymous",
    "display_name": "Anonymous",
    "initials": None,
    "avatar_url": None,
    "color": None,
}
"""The identity of everybody who is let in: there is one token."""

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def routes(
    kernels: Kernels, proxies: Proxies, permits: Permits, is_stopping: Callable[[], bool]
) -> list[web.RouteDef]:
    """Return the routes of this folder, relative to the base URL."""
    return [
        web.get("/api", get_version),
        web.get("/api/status", functools.partial(get_status, kernels, time.time())),
        web.get("/api/me", functools.partial(get_identity, permits)),
        web.get("/api/swagger.json", functools.partial(get_description, "application/json")),
        web.get("/api/swagger.yaml", functools.partial(get_description, "application/yaml")),
        web.get("/healthz", get_health),
        web.get("/readyz", functools.partial(get_readiness, kernels, proxies, is_stopping)),
        web.get("/metrics", functools.partial(get_metrics, kernels)),
    ]


async def get_version(request: web.Request) -> web.Response:
    """Answer which interface this is, and whose."""
    del request
    return json_response({"version": JUPYTER_SERVER_VERSION, "gateway_version": __version__})


async def get_status(kernels: Kernels, started: float, request: web.Request) -> web.Response:
    """Answer how much is going on."""
    del request
    models = await kernels.models()
    return json_response(
        {
            "connections": sum(model.connections for model in models),
            "kernels": len(models),
            "last_activity": max(
                [format_time(started), *(model.last_activity for model in models)]
            ),
            "started": format_time(started),
        }
    )


async def get_identity(permits: Permits, request: web.Request) -> web.Response:
    """Answer who the client is, and which of the `?permissions=` it asks for it has."""
    text = request.query.get("permissions", "")
    try:
        wanted = decode_json(text.encode("utf-8", "surrogateescape"), dict[str, list[str]])
    except InvalidRequestError as exc:
        raise InvalidRequestError(
            'permissions should be a JSON dict of {"resource": ["action",]}'
        ) from exc
    permissions = {
        resource: [action for action in actions if await permits(request, action, resource)]
        for resource, actions in wanted.items()
    }
    return json_response(
        {"identity": ANONYMOUS, "permissions": {**permissions, "updatable_fields": []}}
    )


async def get_description(content_type: str, request: web.Request) -> web.Response:
    """Answer the OpenAPI description. It is JSON, which is YAML too."""
    del request
    text = resources.files(__package__).joinpath("openapi.json").read_bytes()
    return web.Response(body=text, content_type=content_type)


async def get_health(request: web.Request) -> web.Response:
    """Answer that this process is alive."""
    del request
    return json_response({"status": "ok"})


async def get_readiness(
    kernels: Kernels, proxies: Proxies, is_stopping: Callable[[], bool], request: web.Request
) -> web.Response:
    """Answer whether kernels can be started; see `missing_engines`."""
    del request
    if is_stopping():
        raise UnavailableError("This gateway is being stopped", retry_after=1.0)
    faults = await missing_engines(kernels, proxies)
    if faults:
        raise UnavailableError("; ".join(faults))
    return json_response({"status": "ok"})


async def get_metrics(kernels: Kernels, request: web.Request) -> web.Response:
    """Answer the metrics."""
    del request
    page = render_metrics(kernels.metrics, await kernels.models())
    return web.Response(body=page, headers={"Content-Type": _METRICS_TYPE})
