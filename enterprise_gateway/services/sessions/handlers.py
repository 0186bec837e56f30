"""`/api/sessions`."""

from aiohttp import web

from enterprise_gateway.services.sessions.sessions import Sessions
from enterprise_gateway.settings import LiveSettings


def routes(sessions: Sessions, live: LiveSettings) -> list[web.RouteDef]:
    """Return the routes of this folder, relative to the base URL."""
    del sessions, live
    return []
