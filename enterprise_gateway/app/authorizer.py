"""Loading of the authorizer that an operator named."""

from importlib import import_module
from typing import TYPE_CHECKING

from traitlets.config import Application, Configurable

from enterprise_gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from enterprise_gateway.web.authorization import Authorizer

_ALLOW_ALL = frozenset(
    {
        "",
        "jupyter_server.auth.authorizer.AllowAllAuthorizer",
        "jupyter_server.auth.AllowAllAuthorizer",
    }
)
"""Enterprise Gateway's default, for which nothing has to be imported."""


def load_authorizer(dotted_name: str, app: Application) -> "Authorizer | None":
    """Import and construct the authorizer, None if everything is allowed.

    Args:
        dotted_name: Of the class.
        app: Parent of the object if it is configurable, as jupyter_server's authorizers are.

    Raises:
        ConfigurationError: There is no such class.
    """
    if dotted_name in _ALLOW_ALL:
        return None
    module_name, _, class_name = dotted_name.rpartition(".")
    try:
        cls = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigurationError(
            f"authorizer_class {dotted_name!r} cannot be imported: {exc}."
        ) from exc
    authorizer: Authorizer = cls(parent=app) if issubclass(cls, Configurable) else cls()
    return authorizer
