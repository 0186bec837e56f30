"""`/api`, `/api/status`, `/api/me`, `/api/swagger.*`, `/healthz`, `/readyz` and `/metrics`."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from importlib import resources

from aiohttp import web

from enterprise_gateway._version import __version__
from enterprise_gateway.errors import InvalidRequestError, UnavailableError
from enterprise_gateway.services.api.exposition import render_metrics
from enterprise_gateway.services.kernels.agents.state import format_time
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.services.rest import decode_json, json_response
from enterprise_gateway.services.users import SHARED, USER

ENGINE_CHECK_SECONDS = 5.0
"""How long an engine may take to answer a readiness check."""

Permits = Callable[[web.Request, str, str], Awaitable[bool]]
"""Returns whether the user of a request may do an action (`read`) on a resource (`kernels`)."""

PUBLIC_PATHS = frozenset({"/api", "/healthz", "/readyz"})
"""Paths, relative to the base URL, that need no authentication: probes have none."""

JUPYTER_SERVER_VERSION = "2.21.1"
"""The release of jupyter_server whose kernel interface this is; `version` in `/api`."""

_IDENTITY = ("username", "name", "display_name", "initials", "avatar_url", "color")
"""The fields of `jupyter_server.auth.User`."""

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def routes(
    kernels: Kernels, proxies: ProxyRegistry, permits: Permits, is_stopping: Callable[[], bool]
) -> list[web.RouteDef]:
    """Return the routes of this folder, relative to the base URL."""
    return [
        web.get("/api", get_version),
        web.get("/api/status", functools.partial(get_status, kernels, time.time())),
        web.get("/api/me", functools.partial(get_identity, permits)),
        web.get("/api/swagger.json", functools.partial(get_description, "application/json")),
        web.get("/api/swagger.yaml", functools.partial(get_description, "application/yaml")),
        web.get("/api/spec.yaml", functools.partial(get_description, "application/yaml")),
        web.get("/healthz", get_health),
        web.get("/readyz", functools.partial(get_readiness, kernels, proxies, is_stopping)),
        web.get("/metrics", functools.partial(get_metrics, kernels, proxies)),
    ]


async def get_version(request: web.Request) -> web.Response:
    """Answer the versions of the interface and of the gateway."""
    del request
    return json_response({"version": JUPYTER_SERVER_VERSION, "gateway_version": __version__})


async def get_status(kernels: Kernels, started: float, request: web.Request) -> web.Response:
    """Answer counts of the user's kernels, and their last activity.

    To a user of all kernels that of this replica counts, starts and ended kernels included.
    """
    user = request[USER]
    models = await kernels.models(user)
    last = max((model.last_activity for model in models), default="")
    return json_response(
        {
            "connections": sum(model.connections for model in models),
            "kernels": len(models),
            "last_activity": max(
                format_time(started), kernels.last_activity if user.may_use_all else last
            ),
            "started": format_time(started),
        }
    )


async def get_identity(permits: Permits, request: web.Request) -> web.Response:
    """Answer the client's identity, and which of the requested `?permissions=` it has."""
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
    identity = {name: getattr(request[USER], name) for name in _IDENTITY}
    return json_response(
        {"identity": identity, "permissions": {**permissions, "updatable_fields": []}}
    )


async def get_description(content_type: str, request: web.Request) -> web.Response:
    """Answer the OpenAPI description. It is JSON, which is YAML too."""
    del request
    text = resources.files(__package__).joinpath("openapi.json").read_bytes()
    return web.Response(body=text, content_type=content_type)


async def get_health(request: web.Request) -> web.Response:
    """Answer that this replica is alive."""
    del request
    return json_response({"status": "ok"})


async def get_readiness(
    kernels: Kernels, proxies: ProxyRegistry, is_stopping: Callable[[], bool], request: web.Request
) -> web.Response:
    """Answer whether kernels can be started; see `check_engines`."""
    del request
    if is_stopping():
        raise UnavailableError("This gateway is shutting down", retry_after=1.0)
    faults = await check_engines(kernels, proxies)
    if any(faults.values()):
        raise UnavailableError("; ".join(filter(None, faults.values())))
    return json_response({"status": "ok"})


async def get_metrics(
    kernels: Kernels, proxies: ProxyRegistry, request: web.Request
) -> web.Response:
    """Answer the metrics."""
    del request
    faults = await check_engines(kernels, proxies)
    engines = {type(proxy).__name__: not fault for proxy, fault in faults.items()}
    try:
        models = await kernels.models(SHARED)
    except UnavailableError:
        models = None  # the engine has not answered yet, so the kernels are not known
    page = render_metrics(kernels.metrics, models, engines)
    return web.Response(body=page, headers={"Content-Type": _METRICS_TYPE})


async def check_engines(kernels: Kernels, proxies: ProxyRegistry) -> dict[BaseProcessProxyABC, str]:
    """Return what is wrong with the engine of each process proxy, "" where nothing is.

    A process proxy is checked if its engine has answered before or is named in the settings: where
    there never was a Docker engine, the gateway is ready for local kernels.
    """
    checked = [proxy for proxy in proxies.all() if kernels.is_required(proxy)]
    faults = await asyncio.gather(*(_engine_fault(proxy) for proxy in checked))
    return dict(zip(checked, faults, strict=True))


async def _engine_fault(proxy: BaseProcessProxyABC) -> str:
    try:
        async with asyncio.timeout(ENGINE_CHECK_SECONDS):
            await proxy.check()
    except UnavailableError as exc:
        return f"{type(proxy).__name__}: {exc}"
    except TimeoutError:
        return f"{type(proxy).__name__}: the engine did not answer in time"
    return ""
