"""Numbers of bytes, as operators and clients write them. Pure."""

import re

MOST_BYTES = 1 << 60
DOCKER_LOG_SIZE = "[1-9][0-9]{0,17}[bkmgBKMG]?"
"""The sizes that Docker's log drivers take, with units that they choose."""
_SIZE = re.compile("([0-9]{1,18})([kmgt]?)i?b?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def read_size(text: str) -> int | None:
    """Return a number of bytes; None if the text is none, or more than any machine has.

    It may have the units k, m, g and t, in any case and with `b`, `i` or `ib` after them: powers of
    1024, as for the docker command.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * 1024 ** _POWERS[match[2].lower()] if match else None
    return None if size is None or size > MOST_BYTES else size
