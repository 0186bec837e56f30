"""Processes that a benchmark starts and looks at: their CPU time, their memory, their end."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kernel_agent.process.spare_command import BOOT

TERMINATE_SECONDS = 10.0
KERNEL_COMMANDS = re.compile(rb"kernel_agent(?!\.fork_server)|ipykernel|flood_kernel")
"""Command lines of what a server starts for its kernels and that is not part of the server."""


def spawn(
    command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own; both its outputs are appended to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], main_pid: int | None = None) -> None:
    """End a process that `spawn` started, by force if it does not go by itself.

    Args:
        process: it.
        main_pid: which one to tell, if it only waits for another one.
    """
    with suppress(ProcessLookupError):
        os.kill(main_pid or process.pid, signal.SIGTERM)
    try:
        process.wait(TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def kill(pids: Sequence[int]) -> None:
    """Kill what is left of `pids`."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time of all threads, past and present, of `pids`, with nanosecond resolution.

    Uses the clock that clock_getcpuclockid(3) names; its encoding is part of Linux' ABI
    (CPUCLOCK_SCHED of a process).
    """
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids) / 1e9


class Memory(NamedTuple):
    """Sizes in bytes: of all that is there, with what is shared in parts, of the process's own."""

    resident: int
    proportional: int
    private: int


def memory_bytes(pid: int) -> Memory:
    """What a process has in memory."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in rollup.splitlines()[1:]}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Memory(sizes["Rss"], sizes["Pss"], private)


def peak_bytes(pid: int) -> int:
    """The largest resident set size so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def server_pids(main_pid: int) -> list[int]:
    """A server's main process and its helpers, without kernels and their agents."""
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        parent = _parent(pid)
        if parent is not None:
            children.setdefault(parent, []).append(pid)
    found = [main_pid]
    for pid in found:
        found += [
            child for child in children.get(pid, []) if not KERNEL_COMMANDS.search(_command(child))
        ]
    return found


def agent_pids(kernel_ids: Sequence[str]) -> list[int]:
    """The agents of these kernels, in containers or not."""
    return [pid for pid in kernel_pids(kernel_ids) if b"kernel_agent" in _command(pid)]


def spare_pids(pids: Sequence[int]) -> list[int]:
    """Those of `pids` that began as spares of kernels."""
    return [pid for pid in pids if BOOT.encode() in _command(pid)]


def kernel_pids(kernel_ids: Sequence[str]) -> list[int]:
    """Every process that has one of `kernel_ids` as `KERNEL_ID` in its environment."""
    return marked_pids([f"KERNEL_ID={kernel_id}" for kernel_id in kernel_ids])


def marked_pids(marks: Sequence[str]) -> list[int]:
    """Every process that has one of `marks`, such as `NAME=VALUE`, in its environment."""
    wanted = {mark.encode() for mark in marks}
    found = []
    for pid in _all_pids():
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except (OSError, ProcessLookupError):
            continue
        if wanted.intersection(environ.split(b"\0")):
            found.append(pid)
    return found


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parent(pid: int) -> int | None:
    try:
        # The command name in parentheses may itself contain any character.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
