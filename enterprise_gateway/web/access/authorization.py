"""Authorization by the operator's authorizer.

The interface is that of `jupyter_server.auth.Authorizer`, which is not imported.
"""

import inspect
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from aiohttp import web

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.users import USER, User


class Action(StrEnum):
    """An action of a request, in jupyter_server's words."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"


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


def classify(method: str, path: str) -> tuple[Action, str]:
    """Return the action of a request and the resource that it is about.

    Args:
        method: The HTTP method.
        path: The route's path relative to the base URL, with a leading slash.
    """
    segments = path[1:].split("/")
    named = segments[1] if segments[0] == "api" and len(segments) > 1 else segments[0]
    resource = named if named in {"kernels", "kernelspecs", "sessions"} else "api"
    is_execution = segments[3:4] == ["executions"] and len(segments) > 4
    if resource == "kernels" and (segments[-1] in {"channels", "execute"} or is_execution):
        return Action.EXECUTE, resource
    return (Action.READ if method in {"GET", "HEAD", "OPTIONS"} else Action.WRITE), resource


async def is_permitted(
    authorizer: Authorizer | None, request: web.Request, action: str, resource: str
) -> bool:
    """Return whether the authorizer allows an action; without an authorizer all are allowed."""
    if authorizer is None:
        return True
    user = request[USER]
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
