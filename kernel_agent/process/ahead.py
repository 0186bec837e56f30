"""Starts a process of a kernel that imports ahead, as `spare_script` says.

Importing this must stay cheap, since the first process of a kernel may be such a one.
"""

from __future__ import annotations

import socket
from pkgutil import get_data
from typing import AbstractSet, Callable, Dict, Sequence, Tuple

from kernel_agent.process.child import Child, OutputTail
from kernel_agent.process.spare_command import SpareCommand


def spawn_ahead(
    command: SpareCommand,
    preload: Sequence[str],
    env: Dict[str, str],
    log: OutputTail,
    output_file_max_bytes: int,
    *,
    waits: bool,
    spared: Callable[[], AbstractSet[int]] = frozenset,
) -> Tuple[Child, socket.socket]:
    """Return the process and the channel to it.

    Args:
        command: what runs it.
        preload: modules to import besides those of the kernel.
        env: its environment.
        log: gets its output.
        output_file_max_bytes: size at which a file that gets its output is emptied; 0: never.
        waits: whether it waits for a word on the channel; if not, that has no more use.
        spared: returns the descendants of the agent that are to survive it.

    Raises:
        SpawnError: the command cannot be executed.
        OSError: there is no channel.
    """
    text = get_data("kernel_agent.process", "spare_script.py") or b""
    own, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    own.settimeout(0)
    try:
        own.send(command.script(text, preload, waits=waits))
        stdin = its.fileno()
        child = Child(command.argv, env, log, output_file_max_bytes, stdin=stdin, spared=spared)
    except BaseException:
        own.close()
        raise
    finally:
        its.close()
    return child, own
