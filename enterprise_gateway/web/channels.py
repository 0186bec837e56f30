"""`/api/kernels/<id>/channels`: the WebSocket between a client and a kernel's agent, spliced."""

from aiohttp import web

from enterprise_gateway.services.kernels.kernels import Kernels


class Channels:
    """The WebSockets that pass through this gateway."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this module, relative to the base URL."""
        return []

    async def close(self) -> None:
        """Close every WebSocket, so that clients reconnect to the next gateway.

        For `Application.on_shutdown`.
        """
