"""Keeps users from the kernels of others: the one place that every request for a kernel passes."""

from aiohttp import web

from enterprise_gateway.services.kernels.access.rights import Right
from enterprise_gateway.services.kernels.ownership import ACCESS, NotTheirsError, Ownership
from enterprise_gateway.services.request_scope import note_hidden
from enterprise_gateway.services.users import USER
from enterprise_gateway.web.errors import Handler

KERNEL_VARIABLE = "kernel_id"
"""The variable of a route that holds the id of a kernel; routes with it are checked."""

OWNERSHIP: web.AppKey[Ownership] = web.AppKey("ownership", Ownership)
"""Where what knows credentials tells of those that are valid no more: `Ownership.revoke`."""

_READS = frozenset({"GET", "HEAD"})


class OwnershipMiddleware:
    """Passes on requests for the kernels that their users may use, after authentication.

    To a user, a kernel that is not theirs does not exist. Handlers find the user's right in
    `request[ACCESS]`.
    """

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a request for a kernel that is not its user's, or pass it on.

        Raises:
            NotFoundError: There is no such kernel, or it is another user's.
            ForbiddenError: The user may only read.
            UnavailableError: The engine does not answer.
        """
        kernel_id = request.match_info.get(KERNEL_VARIABLE)
        if kernel_id is not None:
            try:
                access = await self._ownership.admit(request[USER], kernel_id)
            except NotTheirsError as exc:
                note_hidden(exc.kernel_id, exc.owner)
                raise
            access.require(needed_right(request.method, _route(request)))
            request[ACCESS] = access
        return await handler(request)


def needed_right(method: str, route: str) -> Right:
    """Return the right that a request for a kernel needs.

    A client with the right to read may open `channels`: its agent lets it send nothing.

    Args:
        method: The HTTP method.
        route: The route's path.
    """
    if route.endswith("/shares"):
        return Right.OWN
    return Right.READ if method in _READS else Right.WRITE


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""
