"""The errors of the gateway, named by the party that has to act.

No HTTP here: `enterprise_gateway.web.errors` maps every class to a status code. Messages are
written for the person who reads them in a notebook: what happened, to what, and what to do. They
must never hold a token, a key or an environment value.

The names of the classes are public: values of the label `error` of the metric
`eg_kernel_start_failures_total`, and so in the alerts of docs/operations.md.
"""

import msgspec

UNREADABLE_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `msgspec.json.decode` raises for a text that is not JSON, or not of the wanted type.

`RecursionError` is for one that is nested too deeply, and no `ValueError`.
"""


class GatewayError(Exception):
    """Base of all errors that a client may see; its text is the message the client gets."""


class InvalidRequestError(GatewayError):
    """The client sent something malformed; sending it again cannot help."""


class ForbiddenError(GatewayError):
    """The user may not do this: authorisation, a prohibited id, a limit."""


class NotFoundError(GatewayError):
    """The thing certainly does not exist; one that is out of reach is an `UnavailableError`."""


class ConflictError(GatewayError):
    """The request contradicts the present state, such as a kernel id in use or a dead kernel."""


class UnavailableError(GatewayError):
    """The engine or an agent does not answer; the same request may succeed later."""

    def __init__(self, message: str, *, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which the client should try again."""


class PreparingError(UnavailableError):
    """What a kernel needs is not there yet, such as its image; it is under way and goes on."""


class LaunchError(GatewayError):
    """A kernel did not start; the text has the reason from its agent, launch script or engine."""


class LaunchTimeoutError(LaunchError):
    """A kernel was not ready before its launch deadline."""


class ConfigurationError(GatewayError):
    """A setting or a kernelspec is wrong; the operator has to correct it."""
