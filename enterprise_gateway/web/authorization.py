"""The question put to an operator's authorizer: may this user do this to that?

The interface is that of `jupyter_server.auth.Authorizer`, which is not imported.
"""

import inspect
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from aiohttp import web

from enterprise_gateway.errors import ForbiddenError


class Action(StrEnum):
    """What a request does, in jupyter_server's words."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"


@dataclass(frozen=True, slots=True)
class User:
    """Who asks. The fields are those of `jupyter_server.auth.User`."""

    username: str = "anonymous"
    name: str = "Anonymous"
    display_name: str = "Anonymous"
    initials: str | None = None
    avatar_url: str | None = None
    color: str | None = None

    def __str__(self) -> str:
        """Return the user name, which is all that Enterprise Gateway's authorizers got."""
        return self.username


class Authorizer(Protocol):
    """Decides what users may do."""

    def is_authorized(
        self, handler: "RequestView", user: User, action: str, resource: str
    ) -> bool | Awaitable[bool]:
        """Return whether the user may: resources are kernels, kernelspecs, sessions and api."""


@dataclass(frozen=True, slots=True)
class RequestView:
    """What authorizers see of a request, under the names that a jupyter_server handler has.

    Attributes:
        request: With `method`, `path`, `headers`, `query` and `remote`.
        path_kwargs: The variables of the path, such as `kernel_id`.
        current_user: Who asks.
    """

    request: web.Request
    path_kwargs: Mapping[str, str]
    current_user: User


def classify(method: str, path: str) -> tuple[Action, str]:
    """Say what a request does to which resource.

    Args:
        method: Of HTTP.
        path: Of the route, relative to the base URL, with a slash in front.
    """
    segments = path[1:].split("/")
    named = segments[1] if segments[0] == "api" and len(segments) > 1 else segments[0]
    resource = named if named in {"kernels", "kernelspecs", "sessions"} else "api"
    if resource == "kernels" and segments[-1] == "channels":
        return Action.EXECUTE, resource
    return (Action.READ if method in {"GET", "HEAD", "OPTIONS"} else Action.WRITE), resource


async def is_permitted(
    authorizer: Authorizer | None, request: web.Request, action: str, resource: str
) -> bool:
    """Ask the authorizer; without one everything is allowed."""
    if authorizer is None:
        return True
    user = User()
    answer = authorizer.is_authorized(
        RequestView(request, request.match_info, user), user, action, resource
    )
    return bool(await answer if inspect.isawaitable(answer) else answer)


async def require_permission(
    authorizer: Authorizer | None, request: web.Request, path: str
) -> None:
    """Ask the authorizer about a request.

    Raises:
        ForbiddenError: It says no.
    """
    action, resource = classify(request.method, path)
    if not await is_permitted(authorizer, request, action, resource):
        raise ForbiddenError(f"User is not authorized to {action} on resource: {resource}.")
