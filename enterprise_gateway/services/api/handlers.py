"""`/api`, `/api/status`, `/api/me`, `/api/swagger.*`, `/healthz`, `/readyz` and `/metrics`."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.proxies import Proxies
from enterprise_gateway.settings import LiveSettings

Permits = Callable[[web.Request, str, str], Awaitable[bool]]
"""Whether the user of a request may do an action (`read`) on a resource (`kernels`)."""

PUBLIC_PATHS = frozenset({"/api", "/healthz", "/readyz"})
"""Paths, relative to the base URL, that answer without a token: probes have none."""


def routes(
    kernels: Kernels, proxies: Proxies, live: LiveSettings, permits: Permits
) -> list[web.RouteDef]:
    """Return the routes of this folder, relative to the base URL."""
    del kernels, proxies, live, permits
    return []
