"""Which kernels can import ahead, and the command that does. Pure."""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional, Sequence

MODULES = ("ipykernel_launcher", "ipykernel")
_PYTHON = re.compile(r"(.*/)?python[0-9.]*")
_FLAGS = re.compile(r"-[bBdEIOPqsSuv]+")
_VALUED = ("-X", "-W")
_RUN_MODULE = re.compile(r"runpy\.run_module\('ipykernel_launcher', run_name='__main__', .*\)")
BOOT = "exec(__import__('os').read(0, 262144), {})"
"""Executes the text that the agent sends; leaves no name in `__main__`."""


class SpareCommand(NamedTuple):
    """The command of a process that imports ahead, such as a spare.

    Attributes:
        argv: its words.
        original: the words of the kernel's command, which it is to be like.
        words: the end of those, from `-m` or `-c` on.
    """

    argv: List[str]
    original: List[str]
    words: List[str]

    def script(self, text: bytes, preload: Sequence[str], *, waits: bool) -> bytes:
        """Return the program that the process gets: `spare_script` with its arguments."""
        call = f"main({self.original!r}, {self.words!r}, {list(preload)!r}, {waits=!r})"
        return text + f"\n\n{call}\n".encode()


def spare_command(argv: Sequence[str]) -> Optional[SpareCommand]:
    """Return the command of a spare for a kernel's command; None: it is none of ipykernel.

    The words of the kernel's command are its last ones, so that both are found by the same names.
    """
    if not argv or not _PYTHON.fullmatch(argv[0]):
        return None
    index = 1
    while index < len(argv) and argv[index] not in ("-m", "-c"):
        word = argv[index]
        if word in _VALUED:
            index += 1
        elif not (word[:2] in _VALUED or _FLAGS.fullmatch(word)):
            return None
        index += 1
    words = list(argv[index:])
    if len(words) < 2 or not _runs_ipykernel(*words[:2]):
        return None
    return SpareCommand([*argv[:index], "-c", BOOT, *words], list(argv), words)


def _runs_ipykernel(option: str, what: str) -> bool:
    if option == "-m":
        return what in MODULES
    return _RUN_MODULE.search(what) is not None
