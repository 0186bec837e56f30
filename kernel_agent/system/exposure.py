"""Hides the agent's secrets from the kernel, which runs as the same user."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Iterator, Optional

from kernel_agent.system.prctl import hide_process

_TOKEN = b"EG_AGENT_TOKEN="
_PARENT = 1
"""Position in /proc/PID/stat after the parenthesised command."""


def hide_secrets() -> None:
    """Hide this process, and say on stderr where the kernel can read the token all the same.

    A process above it that was given the token has its own environment in /proc: an init as process
    1, an entry point that did not go over into its command.
    """
    if not hide_process():
        sys.stderr.write(
            "kernel_agent: this process cannot be hidden: the kernel can read its memory, and so "
            "the agent's token\n"
        )
    shown = find_shown_token()
    if shown is not None:
        sys.stderr.write(
            f"kernel_agent: the kernel can read the agent's token in /proc/{shown}/environ\n"
        )


def find_shown_token() -> Optional[int]:
    """Return the process, this one or one above it, in whose environment others see the token."""
    for pid in _ancestry():
        if pid == os.getpid() and os.geteuid() == 0:  # root always sees its own
            continue
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if any(entry.startswith(_TOKEN) for entry in file.read().split(b"\0")):
                return pid
    return None


def _ancestry() -> Iterator[int]:
    """Yield this process, its parent, and so on."""
    pid = os.getpid()
    with suppress(OSError):
        while pid:
            yield pid
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[_PARENT])
