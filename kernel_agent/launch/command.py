"""The kinds of kernel that an agent runs: a command, a launch script, another container's. Pure."""

from __future__ import annotations

import json
from typing import Mapping, NamedTuple, Tuple, Union

from kernel_agent.launch.connection_info import PORT_NAMES, ConnectionInfo

_KERNEL_CLASS = "--IPKernelApp.kernel_class"


class Command(NamedTuple):
    """A kernel's command.

    Attributes:
        argv: words, with `{connection_file}` for the path of the connection file.
        env: variables to set for it.
        interrupt_by_message: whether it takes interrupts by message.
    """

    argv: Tuple[str, ...]
    env: Mapping[str, str] = {}
    interrupt_by_message: bool = False


def with_kernel_class(command: Command, environ: Mapping[str, str]) -> Command:
    """Add the kernel class that Enterprise Gateway's variable KERNEL_CLASS_NAME names.

    Only ipykernel has such classes. A command that names one already, as that of
    `bootstrap-kernel.sh`, stays as it is.
    """
    name = environ.get("KERNEL_CLASS_NAME", "")
    is_chosen = any(word.startswith(_KERNEL_CLASS) for word in command.argv)
    if not name or is_chosen or "ipykernel_launcher" not in command.argv:
        return command
    return command._replace(argv=(*command.argv, f"{_KERNEL_CLASS}={name}"))


class BootstrapScript(NamedTuple):
    """The script that starts the launcher in Enterprise Gateway's own images."""

    path: str


class Attachment(NamedTuple):
    """A kernel that already runs in another container."""

    info: ConnectionInfo
    comm_port: int
    """Comm port of its launcher; 0: there is none."""


Kernel = Union[Command, BootstrapScript, Attachment]
"""Any of them."""


def read_attachment(text: str) -> Attachment:
    """Decode `EG_AGENT_ATTACH` of the wire contract.

    Raises:
        ValueError: it is missing or malformed; the text does not contain its value.
    """
    try:
        document = json.loads(text)
        ports = {name: int(document[name]) for name in PORT_NAMES}
        scheme, _, digest = document["signature_scheme"].partition("-")
        ip, key = document["ip"], document["key"]
        comm_port = int(document.get("comm_port", 0))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ValueError("EG_AGENT_ATTACH does not say how to reach a kernel") from exc
    if not (isinstance(ip, str) and isinstance(key, str) and scheme == "hmac" and digest):
        raise ValueError("EG_AGENT_ATTACH does not say how to reach a kernel")
    return Attachment(ConnectionInfo(ports, key, ip, digest), comm_port)
