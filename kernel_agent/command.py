"""Where an agent's kernel comes from: the answers of whoever decides that."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Tuple, Union

from kernel_agent.connection_file import ConnectionInfo


class Command(NamedTuple):
    """A kernel's command.

    Attributes:
        argv: with `{connection_file}` for the path of the connection file.
        env: variables to set for it.
        interrupt_by_message: whether it wants to be interrupted so.
    """

    argv: Tuple[str, ...]
    env: Mapping[str, str] = {}
    interrupt_by_message: bool = False


class BootstrapScript(NamedTuple):
    """The script by which Enterprise Gateway's own images start their launcher."""

    path: str


class Attachment(NamedTuple):
    """A kernel that runs in another container already."""

    info: ConnectionInfo
    comm_port: int
    """Of its launcher; 0: there is none."""


Kernel = Union[Command, BootstrapScript, Attachment]
"""What an agent's kernel is."""
