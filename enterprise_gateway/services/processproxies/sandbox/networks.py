"""The Docker network that a kernel joins: `network` of a kernelspec. Pure."""

import re
from dataclasses import dataclass

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import SandboxSettings

DEFAULT = "default"
INTERNAL = "internal"
NONE = "none"
NO_NAME_SERVER = "127.0.0.1"
"""Where nothing answers: Docker's own name server would ask the host's for outside names."""
_NAME = re.compile("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """The network of one kernel."""

    name: str = ""
    """"": that of the settings, or of kernel.json's DOCKER_NETWORK."""
    must_be_internal: bool = False
    dns: tuple[str, ...] = ()
    """Name servers, besides that of the network; (): the engine's."""


def choose_network(stated: object, settings: SandboxSettings, where: str) -> NetworkChoice:
    """Return the network that a kernelspec states.

    Args:
        stated: its `network`: `default`, `internal`, `none` or a network's name.
        settings: name the internal network.
        where: the kernelspec, for the error.

    Raises:
        ConfigurationError: it is none, or there is no internal network.
    """
    if not isinstance(stated, str) or not _NAME.fullmatch(stated):
        raise ConfigurationError(
            f"network {where} must be default, internal, none or the name of a Docker network, but "
            f"is {str(stated)[:100]!r}."
        )
    if stated == DEFAULT:
        return NetworkChoice()
    if stated not in (INTERNAL, NONE):
        return NetworkChoice(stated)
    if not settings.internal_network:
        raise ConfigurationError(
            f"network {where} is {stated}, but there is no internal network: make one with docker "
            "network create --internal NAME, let the gateway join it, and set internal_network "
            "(EG_INTERNAL_NETWORK) to its name."
        )
    dns = (NO_NAME_SERVER,) if stated == NONE else ()
    return NetworkChoice(settings.internal_network, must_be_internal=True, dns=dns)
