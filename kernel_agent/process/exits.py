"""Why a kernel's process ended."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple, Optional

DOCKER_SHM_BYTES = 64 * 1024 * 1024
"""Default size of /dev/shm in a container."""


class ExitReason(NamedTuple):
    """Why a kernel process ended; the wire contract's `reason`."""

    message: str
    exit_code: Optional[int] = None
    signal: Optional[str] = None
    out_of_memory: bool = False
    stderr: str = ""


class SharedMemory(NamedTuple):
    """Size and free space of /dev/shm, in bytes."""

    size: int
    free: int

    @property
    def is_full(self) -> bool:
        """Whether hardly anything can be written."""
        return self.free < self.size // 100

    @property
    def is_scarce(self) -> bool:
        """Whether it is a likely cause of a SIGBUS: it is full, or no larger than Docker's default.

        The files that filled it may be gone with the process.
        """
        return self.free < self.size // 10 or self.size <= DOCKER_SHM_BYTES


def read_shared_memory() -> Optional[SharedMemory]:
    """Return size and free space of shared memory; None if there is none."""
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108  # not written
    except OSError:
        return None
    return SharedMemory(found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail)


def in_binary_unit(size: int) -> str:
    """Return a number of bytes in GiB if they are so many, else in MiB."""
    power, unit = (3, "GiB") if size >= 1024**3 else (2, "MiB")
    return f"{size / 1024**power:.2f}".rstrip("0").rstrip(".") + f" {unit}"


def explain_exit(
    code: int,
    *,
    out_of_memory: bool,
    stderr: str,
    who: str = "the kernel",
    shared_memory: Optional[SharedMemory] = None,
    memory_limit: Optional[int] = None,
) -> ExitReason:
    """Describe an exit code, negative for a signal.

    Args:
        code: the exit code.
        out_of_memory: whether a process was killed because memory ran out.
        stderr: the last lines of its stderr.
        who: what has ended.
        shared_memory: /dev/shm, if known.
        memory_limit: the bytes that all processes may take together, if they are limited.
    """
    if code >= 0:
        return ExitReason(f"{who} exited with code {code}", exit_code=code, stderr=stderr)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    is_oom = out_of_memory and -code == signal.SIGKILL
    limit = f": the limit is {in_binary_unit(memory_limit)}" if memory_limit else ""
    suffix = f" (out of memory{limit})" if is_oom else ""
    if -code == signal.SIGBUS and shared_memory is not None and shared_memory.is_scarce:
        suffix = (
            f" (its shared memory, /dev/shm, of {shared_memory.size >> 20} MiB was probably full: "
            "KERNEL_SHM_SIZE, or shm_size in resources of the kernelspec's config, gives more)"
        )
    return ExitReason(
        f"{who} was killed by {name}{suffix}", signal=name, out_of_memory=is_oom, stderr=stderr
    )
