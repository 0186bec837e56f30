"""The request that is being served, for the lines that are logged meanwhile. Pure.

A request has an id, which its answer carries too. The service that looks up a kernel adds the
kernel's user.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

REQUEST_ID_HEADER = "X-Request-ID"

_SAFE = re.compile(r"[A-Za-z0-9._~:/=+-]{1,128}")


@dataclass(slots=True)
class RequestScope:
    """One request."""

    request_id: str
    user: str = ""
    """The user of its kernel, "" if that is not known: a name that authorizes nothing."""
    requester: str = ""
    """The user whose request it is, "" before that is known."""
    is_over: bool = False


_scope: ContextVar[RequestScope | None] = ContextVar("request", default=None)


def choose_request_id(offered: str | None) -> str:
    """Return the id that a client or a proxy gave a request if it is valid, else a new one.

    Args:
        offered: the `X-Request-ID`; accepted are up to 128 letters, digits and `._~:/=+-`.
    """
    return offered if offered and _SAFE.fullmatch(offered) else secrets.token_hex(8)


def current_scope() -> RequestScope | None:
    """Return the request that this task serves, None if there is none."""
    scope = _scope.get()
    return None if scope is None or scope.is_over else scope


def set_user(username: str) -> None:
    """Set the user of the request's kernel."""
    scope = current_scope()
    if scope is not None:
        scope.user = username


def current_requester() -> str:
    """Return the user whose request this task serves, "" if there is none."""
    scope = current_scope()
    return scope.requester if scope is not None else ""


@contextmanager
def serving(scope: RequestScope) -> Iterator[None]:
    """Serve a request in this context.

    Tasks that outlive it, such as the one that follows a new kernel, have no scope once it has
    ended.
    """
    reset = _scope.set(scope)
    try:
        yield
    finally:
        scope.is_over = True
        _scope.reset(reset)
