"""What can go wrong, named by who has to act.

No HTTP here: `enterprise_gateway.web.errors` maps every class to a status code. Messages are
written for the person who reads them in a notebook: what happened, to what, and what to do. They
must never hold a token, a key or an environment value.
"""


class GatewayError(Exception):
    """Base of all errors that a client may see; its text is the message the client gets."""


class InvalidRequestError(GatewayError):
    """The client sent something malformed; sending it again cannot help."""


class ForbiddenError(GatewayError):
    """The user may not do this: authorisation, a prohibited id, a limit."""


class NotFoundError(GatewayError):
    """The named thing does not exist, for certain; out of reach is `UnavailableError`."""


class ConflictError(GatewayError):
    """The request contradicts what is there, such as a kernel id in use or a dead kernel."""


class UnavailableError(GatewayError):
    """The engine or an agent does not answer; the same request may succeed later."""

    def __init__(self, message: str, *, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which asking again makes sense."""


class LaunchError(GatewayError):
    """A kernel did not start; the text says why, in the words of whoever knew."""


class LaunchTimeoutError(LaunchError):
    """A kernel was not ready before its launch deadline."""


class ConfigurationError(GatewayError):
    """A setting or a kernelspec is wrong; the operator has to mend it."""
