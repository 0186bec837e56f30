"""The agent's bundle as a file, for tests that start it as a container does."""

import re
from collections.abc import Mapping
from pathlib import Path

import kernel_agent
from enterprise_gateway.services.processproxies.injection.bundle import (
    MAIN,
    pack_bundle,
    read_modules,
)

_PRELUDE = Path(kernel_agent.__file__).with_name("prelude.sh")


def build(agent: Mapping[str, bytes] | None = None, root: Path | None = None) -> bytes:
    """Make the bundle.

    Args:
        agent: what its archive holds in place of the agent, by name.
        root: a folder that stands for `/` where the shell script looks into /opt and /usr.
    """
    prelude = _PRELUDE.read_text()
    if root is not None:
        prelude = re.sub(r"/(opt|usr)/", rf"{root}/\1/", prelude)
    modules = read_modules()
    if agent is not None:
        modules = {MAIN: modules[MAIN], **agent}
    return pack_bundle(prelude.encode(), modules).content
