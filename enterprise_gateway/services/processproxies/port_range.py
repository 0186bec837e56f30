"""`port_range`: where a kernel takes its ports from."""

from collections.abc import Mapping

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import KernelSettings

_LOWEST_PORT = 1024
_HIGHEST_PORT = 65535


def resolve_port_range(config: Mapping[str, object], settings: KernelSettings) -> str:
    """Return `lo..hi` from the kernelspec's `config.port_range`, else from the settings.

    `0..0` stands for any port.

    Raises:
        ConfigurationError: the range is malformed or smaller than EG_MIN_PORT_RANGE_SIZE.
    """
    low, high = settings.port_range
    stated = config.get("port_range")
    if stated is not None:
        try:
            low, high = (int(end) for end in str(stated).split(".."))
        except ValueError as exc:
            raise ConfigurationError(
                f"Port range validation failed for range: '{stated}'. "
                "It must be two port numbers, as in 40000..41999."
            ) from exc
    if (low, high) == (0, 0):
        return "0..0"
    if not _LOWEST_PORT <= low <= high <= _HIGHEST_PORT:
        raise ConfigurationError(
            f"Invalid port range '{low}..{high}' specified. "
            f"Range for valid port numbers is ({_LOWEST_PORT}, {_HIGHEST_PORT})."
        )
    if high - low < settings.min_port_range_size:
        raise ConfigurationError(
            f"Port range validation failed for range: '{low}..{high}'. Range size must be at least "
            f"{settings.min_port_range_size} as specified by env EG_MIN_PORT_RANGE_SIZE"
        )
    return f"{low}..{high}"
