"""Scopes: what each route needs."""

import pytest

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.users import SHARED, Scope, User
from enterprise_gateway.settings import LiveSettings, Settings
from enterprise_gateway.web.access.scopes import may_use, require_scope, sufficient_scopes
from enterprise_gateway.web.server import build

KERNELS, METRICS, ADMIN = Scope.KERNELS, Scope.METRICS, Scope.ADMIN
ALL = frozenset(Scope)
NEEDED = {
    "/": ALL,
    "/api/me": ALL,
    "/api/swagger.json": ALL,
    "/api/swagger.yaml": ALL,
    "/api/spec.yaml": ALL,
    "/metrics": {METRICS},
    "/api/status": {METRICS, KERNELS},
    "/api/events": frozenset(),
}
"""What is no resource of kernels; the first five tell nothing of them, the last is for admins."""
PUBLIC = {"/api", "/healthz", "/readyz"}


async def test_every_route_has_its_scope() -> None:
    """One that is added and not thought of is for admins, and fails this test."""
    app = build(LiveSettings(Settings()))
    paths = {
        resource.canonical.removeprefix("/t/{access_token}") for resource in app.router.resources()
    }
    assert len(paths) > 15
    for path in paths - PUBLIC:
        is_of_kernels = path.startswith(("/api/kernels", "/api/sessions", "/kernelspecs"))
        assert sufficient_scopes(path) == NEEDED.get(path, {KERNELS} if is_of_kernels else None), (
            path
        )


def test_unknown_route_is_for_admins() -> None:
    """The safe side."""
    assert sufficient_scopes("/api/secrets") == set()
    require_scope(User("root", scopes=frozenset({ADMIN}), credential="x"), "/api/secrets")
    with pytest.raises(ForbiddenError):
        require_scope(User("ann", credential="x"), "/api/secrets")


@pytest.mark.parametrize("path", [*NEEDED, "/api/kernels", "/api/secrets"])
def test_shared_token_has_every_scope(path: str) -> None:
    """As in Jupyter Enterprise Gateway."""
    require_scope(SHARED, path)


def test_refusal_names_what_is_needed_and_what_is_there() -> None:
    """So that an operator knows what to grant."""
    prometheus = User("prometheus", scopes=frozenset({METRICS}), credential="x")
    require_scope(prometheus, "/metrics")
    with pytest.raises(ForbiddenError) as refused:
        require_scope(prometheus, "/api/kernels/{kernel_id}")
    assert str(refused.value) == (
        "User prometheus may not do this: it needs the scope admin or kernels, and the user has "
        "read:metrics."
    )
    with pytest.raises(ForbiddenError, match="read:metrics, and the user has kernels"):
        require_scope(User("ann", credential="x"), "/metrics")


def test_permissions_follow_scopes() -> None:
    """What `/api/me` says."""
    prometheus = User("prometheus", scopes=frozenset({METRICS}), credential="x")
    assert not may_use(prometheus, "kernels")
    assert may_use(prometheus, "api")
    assert may_use(User("ann", credential="x"), "sessions")
