"""How long the GPUs of the container have been idle, as `nvidia-smi` says."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Optional

from kernel_agent.system.reaper import Reaper

INTERVAL_SECONDS = 15.0
"""Time between two looks. Each tells of the last second or less."""
ANSWER_SECONDS = 10.0
_COMMAND = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
_MAX_BYTES = 64 * 1024
"""Less than a pipe takes (pipe(7)), so the program never waits for its reader."""


class GPUWatch:
    """Looks at the GPUs now and then, once it was started.

    Attributes:
        idle_since: By the event loop's clock; None: there are no GPUs, or it is not known.
    """

    def __init__(self, reaper: Reaper, path: str) -> None:
        """Look at nothing yet.

        Args:
            reaper: owns the child processes.
            path: folders in which the program is looked for, as in `PATH`.
        """
        self.idle_since: Optional[float] = None
        self._reaper = reaper
        self._path = path
        self._task: "Optional[asyncio.Task[None]]" = None

    def start(self) -> None:
        """Begin to look, unless that has begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def begin_anew(self) -> None:
        """Count from now on, as for a user who has just got the kernel."""
        if self.idle_since is not None:
            self.idle_since = asyncio.get_running_loop().time()

    def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.idle_since = None

    async def _watch(self) -> None:
        """Task root."""
        loop = asyncio.get_running_loop()
        while True:
            utilization = await read_utilization(self._reaper, self._path)
            if utilization is None:
                self.idle_since = None
            elif utilization > 0 or self.idle_since is None:
                self.idle_since = loop.time()
            await asyncio.sleep(INTERVAL_SECONDS)


async def read_utilization(reaper: Reaper, path: str) -> Optional[int]:
    """Return the percentage of time in which the busiest GPU worked; None: it is not known."""
    import shutil  # noqa: PLC0415  # imports much, and few kernels have GPUs to look at

    program = shutil.which(_COMMAND[0], path=path)
    if program is None:
        return None
    try:
        answer, written = os.pipe()
    except OSError:
        return None
    try:
        try:
            pid = _begin(program, path, written)
        except OSError:
            return None
        finally:
            os.close(written)
        exited = reaper.watch(pid)
        try:
            code = await asyncio.wait_for(asyncio.shield(exited), ANSWER_SECONDS)
        except (asyncio.TimeoutError, asyncio.CancelledError):
            if not exited.done():
                os.kill(pid, signal.SIGKILL)
            raise
        return parse_utilization(os.read(answer, _MAX_BYTES)) if code == 0 else None
    except asyncio.TimeoutError:
        return None
    finally:
        os.close(answer)


def _begin(program: str, path: str, output: int) -> int:
    """Start a program of the image, which is told nothing of the agent; return its process id."""
    return os.posix_spawn(
        program,
        _COMMAND,
        {"PATH": path},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
    )


def parse_utilization(output: bytes) -> Optional[int]:
    """Return the largest number of the lines; None if one is no percentage, or there is none."""
    numbers = [line.strip() for line in output.splitlines()]
    if not numbers or not all(number.isdigit() and len(number) <= 3 for number in numbers):
        return None
    return max(map(int, numbers))
