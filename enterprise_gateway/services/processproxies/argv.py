"""The kernelspec's argv, made ready to run."""

import re
import sys
from collections.abc import Iterable, Mapping

_TEMPLATE = re.compile(r"\{([A-Za-z0-9_]+)\}")
_PYTHON_NAMES = frozenset(
    {"python", f"python{sys.version_info[0]}", "python{}.{}".format(*sys.version_info[:2])}
)


def format_argv(argv: Iterable[str], values: Mapping[str, str]) -> list[str]:
    """Replace `{name}` by its value wherever it stands; a name without a value stays as it is.

    As in `jupyter_client`, a bare `python` in first place means the interpreter that the gateway
    runs in.
    """
    formatted = [_TEMPLATE.sub(lambda match: values.get(match[1], match[0]), part) for part in argv]
    if formatted and formatted[0] in _PYTHON_NAMES:
        formatted[0] = sys.executable
    return formatted
