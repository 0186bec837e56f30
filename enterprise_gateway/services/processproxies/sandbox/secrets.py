"""Secrets of the Swarm that a kernel may read: `secrets` of a kernelspec. Pure."""

import re
from collections.abc import Mapping

import msgspec

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.sandbox.templates import (
    TemplateError,
    replace_templates,
)

MAX_SECRETS = 32
_NAME = re.compile("[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?")
"""The names that Swarm takes for secrets."""


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret of the Swarm, in a file in /run/secrets that only the kernel's user can read."""

    source: str
    """Its name."""
    target: str = ""
    """The file's name; "": the secret's."""


def choose_secrets(
    stated: object, values: Mapping[str, str], where: str, *, is_service: bool
) -> tuple[Secret, ...]:
    """Return the secrets of one kernel.

    Args:
        stated: the kernelspec's `secrets`.
        values: of `username` and `kernel_id`.
        where: the kernelspec, for the error.
        is_service: whether Swarm makes the container.

    Raises:
        ConfigurationError: the kernelspec's are malformed, or kernels are containers.
    """
    try:
        secrets = msgspec.convert(stated, type=tuple[Secret, ...])
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"secrets {where} are not understood: {exc}.") from exc
    if secrets and not is_service:
        raise ConfigurationError(
            f"secrets {where} are for services: without a Swarm Docker has none. Mount a file of "
            "the host instead (volumes, type bind, read_only)."
        )
    if len(secrets) > MAX_SECRETS:
        raise ConfigurationError(f"secrets {where} are more than {MAX_SECRETS}.")
    return tuple(_filled(secret, values, where) for secret in secrets)


def _filled(secret: Secret, values: Mapping[str, str], where: str) -> Secret:
    try:
        source = replace_templates(secret.source, values)
        target = replace_templates(secret.target, values) or source
    except TemplateError as exc:
        raise ConfigurationError(f"secrets {where}: {exc}.") from exc
    for name in (source, target):
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"secrets {where}: {name[:100]!r} is not the name of a secret or of its file."
            )
    return Secret(source, target)
