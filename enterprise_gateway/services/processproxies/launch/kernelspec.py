"""A kernelspec's argv and port range, made ready for a launch. Pure."""

import re
import sys
from collections.abc import Iterable, Mapping

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import KernelSettings

_TEMPLATE = re.compile(r"\{([A-Za-z0-9_]+)\}")
_PYTHON_NAMES = frozenset(
    {"python", f"python{sys.version_info[0]}", "python{}.{}".format(*sys.version_info[:2])}
)
_LOWEST_PORT = 1024
_HIGHEST_PORT = 65535


def format_argv(argv: Iterable[str], values: Mapping[str, str]) -> list[str]:
    """Replace each `{name}` by its value; a name without a value stays as it is.

    As in `jupyter_client`, `python` as the first word is replaced by the gateway's interpreter.
    """
    formatted = [_TEMPLATE.sub(lambda match: values.get(match[1], match[0]), part) for part in argv]
    if formatted and formatted[0] in _PYTHON_NAMES:
        formatted[0] = sys.executable
    return formatted


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
