"""Loads the authorizer that the operator names."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from traitlets.config import Application, Configurable

from enterprise_gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from enterprise_gateway.web.access.authorization import Authorizer

_ALLOW_ALL = frozenset(
    {
        "",
        "jupyter_server.auth.authorizer.AllowAllAuthorizer",
        "jupyter_server.auth.AllowAllAuthorizer",
    }
)
"""The default of Enterprise Gateway, for which nothing is imported."""


def load_authorizer(dotted_name: str, app: Application) -> "Authorizer | None":
    """Import and instantiate the authorizer; None if everything is allowed.

    Args:
        dotted_name: of the authorizer's class.
        app: the parent if the class is configurable, as those of jupyter_server are.

    Raises:
        ConfigurationError: the class does not exist, or it cannot be instantiated.
    """
    found = find_authorizer(dotted_name)
    if not found:
        return None
    cls = found[0]
    try:
        authorizer: Any = cls(parent=app) if issubclass(cls, Configurable) else cls()
    except Exception as exc:  # the class is a site's own
        raise ConfigurationError(
            f"authorizer_class {dotted_name!r} cannot be instantiated: {type(exc).__name__}: {exc}."
        ) from exc
    return cast("Authorizer", authorizer)


def find_authorizer(dotted_name: str) -> tuple[type[Any], ...]:
    """Import the authorizer's class; empty if everything is allowed.

    Raises:
        ConfigurationError: the class does not exist.
    """
    if dotted_name in _ALLOW_ALL:
        return ()
    module_name, _, class_name = dotted_name.rpartition(".")
    try:
        found: object = getattr(import_module(module_name), class_name)
    except Exception as exc:  # importing runs the site's own code
        raise ConfigurationError(
            f"authorizer_class {dotted_name!r} cannot be imported: {exc}."
        ) from exc
    if not (isinstance(found, type) and callable(getattr(found, "is_authorized", None))):
        raise ConfigurationError(
            f"authorizer_class {dotted_name!r} is not a class with a method is_authorized."
        )
    return (found,)
