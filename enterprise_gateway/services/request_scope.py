"""The request that is being served, for the lines that are logged meanwhile. Pure.

A request has an id, which its answer carries too. Authentication adds who sends it, and the service
that looks up or starts a kernel adds that.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

ANONYMOUS = "anonymous"
REQUEST_ID_HEADER = "X-Request-ID"

_SAFE = re.compile(r"[A-Za-z0-9._~:/=+-]{1,128}")


@dataclass(slots=True)
class RequestScope:
    """One request."""

    request_id: str
    client: str = ""
    """The user who sends it, "" if that is not known."""
    credential: str = ""
    """Which credential they showed, in a form that opens nothing."""
    kernel_id: str = ""
    """Its kernel, "" if it has looked up or started none."""
    owner: str = ""
    """The user of its kernel as in the name of its workload, "" if that is not known.

    It authorizes nothing.
    """
    is_hidden: bool = False
    """Whether it is refused because it names another user's kernel."""
    details: dict[str, object] = field(default_factory=dict)
    """What else the audit log tells of it."""
    is_over: bool = False

    @property
    def user(self) -> str:
        """Whom log lines name: who sends it or, if that is not known, the user of its kernel."""
        return self.client or self.owner


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


def set_kernel(kernel_id: str, username: str) -> None:
    """Set the request's kernel and the kernel's user, as in the name of its workload."""
    scope = current_scope()
    if scope is not None:
        scope.kernel_id = kernel_id
        scope.owner = username


def note_hidden(kernel_id: str, username: str) -> None:
    """Have the audit log tell that the request is refused, since the kernel is another user's."""
    set_kernel(kernel_id, username)
    scope = current_scope()
    if scope is not None:
        scope.is_hidden = True


def set_client(username: str, credential: str) -> None:
    """Set who sends the request."""
    scope = current_scope()
    if scope is not None:
        scope.client = username
        scope.credential = credential


def note_detail(name: str, value: object) -> None:
    """Have the audit log tell something of the request: plain data, and no secret."""
    scope = current_scope()
    if scope is not None:
        scope.details[name] = value


def current_client() -> str:
    """Return the user whose request this task serves, "" if it serves none.

    Who sends the token that all share is anonymous.
    """
    scope = current_scope()
    return "" if scope is None else scope.client or ANONYMOUS


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
