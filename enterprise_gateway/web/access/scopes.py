"""Which scope a request needs. Pure."""

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.users import Scope, User
from enterprise_gateway.web.access.actions import classify

_FREE = frozenset({"", "/", "/api/me", "/api/swagger.json", "/api/swagger.yaml", "/api/spec.yaml"})
_METRICS = {
    "/metrics": frozenset({Scope.METRICS}),
    "/api/status": frozenset({Scope.METRICS, Scope.KERNELS}),
}


def may_use(user: User, resource: str) -> bool:
    """Return whether a user's scopes suffice for a resource.

    Args:
        user: The user.
        resource: kernels, kernelspecs, sessions or api.
    """
    return resource == "api" or not user.scopes.isdisjoint({Scope.KERNELS, Scope.ADMIN})


def sufficient_scopes(path: str) -> frozenset[Scope]:
    """Return the scopes each of which lets a user in, besides `admin`; empty: only that does.

    Args:
        path: The route's path relative to the base URL; one that is not known here is for admins.
    """
    if path in _FREE:
        return frozenset(Scope)
    if path in _METRICS:
        return _METRICS[path]
    _, resource = classify("GET", path)
    return frozenset() if resource == "api" else frozenset({Scope.KERNELS})


def require_scope(user: User, path: str) -> None:
    """Check that a user's scopes suffice for a request.

    Raises:
        ForbiddenError: They do not.
    """
    if Scope.ADMIN in user.scopes or path in _FREE:
        return
    enough = sufficient_scopes(path)
    if enough.isdisjoint(user.scopes):
        wanted = " or ".join(sorted({*enough, Scope.ADMIN}))
        has = ", ".join(sorted(user.scopes)) or "none"
        raise ForbiddenError(
            f"User {user} may not do this: it needs the scope {wanted}, and the user has {has}."
        )
