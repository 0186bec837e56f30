"""Secrets that a kernel may read, in files in /run/secrets: `secrets` of a kernelspec. Pure."""

import re
from collections.abc import Iterable, Mapping

import msgspec

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.sandbox.mounts import Mount
from enterprise_gateway.services.processproxies.sandbox.templates import (
    TemplateError,
    replace_templates,
)

MAX_SECRETS = 32
SECRETS = "/run/secrets"
"""Where kernels find them."""
_NAME = re.compile("[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?")
"""The names that Swarm takes for secrets."""


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret of the Swarm or, for containers, a file of the host."""

    source: str
    """Its name."""
    target: str = ""
    """The file's name; "": the secret's."""


def choose_secrets(stated: object, values: Mapping[str, str], where: str) -> tuple[Secret, ...]:
    """Return the secrets of one kernel.

    Args:
        stated: the kernelspec's `secrets`.
        values: of `username` and `kernel_id`.
        where: the kernelspec, for the error.

    Raises:
        ConfigurationError: the kernelspec's are malformed.
    """
    try:
        secrets = msgspec.convert(stated, type=tuple[Secret, ...])
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"secrets {where} are not understood: {exc}.") from exc
    if len(secrets) > MAX_SECRETS:
        raise ConfigurationError(f"secrets {where} are more than {MAX_SECRETS}.")
    return tuple(_filled(secret, values, where) for secret in secrets)


def mount_secrets(secrets: Iterable[Secret], folder: str, where: str) -> tuple[Mount, ...]:
    """Return the mounts of a container's secrets, as an engine without a Swarm has none.

    Args:
        secrets: the names of files in the folder.
        folder: of the engine's host; "": there is none.
        where: the kernelspec, for the error.

    Raises:
        ConfigurationError: there are secrets, but no folder.
    """
    mounts = tuple(
        Mount(f"{SECRETS}/{secret.target}", "bind", f"{folder}/{secret.source}", read_only=True)
        for secret in secrets
    )
    if mounts and not folder:
        raise ConfigurationError(
            f"secrets {where} of a container are files of the engine's host: name their folder in "
            "secrets_folder (EG_SECRETS_FOLDER)."
        )
    return mounts


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
