"""What /proc shows of this process, proc(5)."""

from __future__ import annotations

import ctypes
from typing import Iterable, Tuple

STAT = "/proc/self/stat"
_START_TIME, _ARGUMENTS, _VARIABLES = 19, 45, 47
"""Positions in the file after the parenthesised command."""


def start_time() -> int:
    """Return when this process was created, in clock ticks since the machine's boot."""
    return _read(_START_TIME)[0]


def show_arguments(arguments: Iterable[str]) -> None:
    """Replace what `cmdline`, and so ps(1), shows; what does not fit is left out."""
    _write(_ARGUMENTS, arguments)


def show_variables(variables: Iterable[str]) -> None:
    """Replace what `environ` shows, each `NAME=value`; what does not fit is left out.

    The process's own environment stays as it is.
    """
    _write(_VARIABLES, variables)


def _write(position: int, words: Iterable[str]) -> None:
    """Write words into the memory in which execve(2) left the former ones."""
    begin, end = _read(position)
    text = b""
    for word in words:
        longer = text + word.encode("utf-8", "surrogateescape") + b"\0"
        if len(longer) > end - begin:
            break
        text = longer
    if text:
        ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)


def _read(position: int) -> Tuple[int, int]:
    with open(STAT, encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[position]), int(fields[position + 1])
