"""`/api/kernels`."""

from aiohttp import web

from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.settings import LiveSettings


def routes(kernels: Kernels, live: LiveSettings) -> list[web.RouteDef]:
    """Return the routes of this folder, relative to the base URL."""
    del kernels, live
    return []
