"""Authorization by the operator's authorizer.

The interface is that of `jupyter_server.auth.Authorizer`, which is not imported.
"""

import inspect
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.users import USER, User
from enterprise_gateway.web.access.actions import classify
from enterprise_gateway.web.access.scopes import may_use


class Authorizer(Protocol):
    """Decides what users may do."""

    def is_authorized(
        self, handler: "RequestView", user: User, action: str, resource: str
    ) -> bool | Awaitable[bool]:
        """Return whether the user may; resources are kernels, kernelspecs, sessions and api."""


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request as authorizers see it, with the attributes of a jupyter_server handler.

    Attributes:
        request: With `method`, `path`, `headers`, `query` and `remote`.
        path_kwargs: The variables of the path, such as `kernel_id`.
        current_user: The user of the request.
    """

    request: web.Request
    path_kwargs: Mapping[str, str]
    current_user: User


async def is_permitted(
    authorizer: Authorizer | None, request: web.Request, action: str, resource: str
) -> bool:
    """Return whether the user's scopes and the authorizer, if there is one, allow an action."""
    user = request[USER]
    if not may_use(user, resource):
        return False
    if authorizer is None:
        return True
    answer = authorizer.is_authorized(
        RequestView(request, request.match_info, user), user, action, resource
    )
    return bool(await answer if inspect.isawaitable(answer) else answer)


async def require_permission(
    authorizer: Authorizer | None, request: web.Request, path: str
) -> None:
    """Check with the authorizer that a request is allowed.

    Raises:
        ForbiddenError: The authorizer refuses it.
    """
    action, resource = classify(request.method, path)
    if not await is_permitted(authorizer, request, action, resource):
        raise ForbiddenError(f"User is not authorized to {action} on resource: {resource}.")
