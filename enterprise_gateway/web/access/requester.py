"""Notes whose request it is, for the events that it causes."""

from aiohttp import web

from enterprise_gateway.services.request_scope import current_scope
from enterprise_gateway.services.users import USER
from enterprise_gateway.web.errors import Handler


@web.middleware
async def note_requester(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note the user of a request that is authenticated."""
    scope = current_scope()
    if scope is not None and USER in request:
        scope.requester = request[USER].username
    return await handler(request)
