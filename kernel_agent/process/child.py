"""A kernel's process as a child of the agent: spawned, signalled, its output forwarded.

Importing this must stay cheap, since it is imported before the kernel is spawned; most other
modules are imported while the kernel boots.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import IO, AbstractSet, Callable, Dict, List, Mapping, Optional, Sequence

from kernel_agent.system.descendants import end_descendants, signal_descendants
from kernel_agent.system.memory import end_before_agent

LOG_TAIL_BYTES = 65536
STDERR_TAIL_BYTES = 4096
CHUNK_BYTES = 65536
GRACE_SECONDS = 0.3
"""How long the descendants of an ended kernel may take to end by themselves."""
END_TIMEOUT_SECONDS = 5.0
"""How long to wait until its descendants have ended."""
STDOUT = 1
STDERR = 2


class SpawnError(Exception):
    """The kernel cannot be started, or did not report its ports; the text gives the reason."""


def changed_environment(
    env: Mapping[str, str], changes: Mapping[str, Optional[str]]
) -> Dict[str, str]:
    """Return the environment with some variables set, and those that are None unset."""
    changed = {**env, **changes}
    return {name: value for name, value in changed.items() if value is not None}


class OutputTail:
    """The last bytes of a stream. Written by one thread, read by another."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = b""

    def append(self, chunk: bytes) -> None:
        """Add a chunk; drop the oldest bytes beyond the limit."""
        self._data = (self._data + chunk)[-self._max_bytes :]

    def read(self, max_bytes: int) -> str:
        """Return at most the last `max_bytes` as text."""
        data = self._data[-max_bytes:] if max_bytes else b""
        return data.decode("utf-8", errors="replace")


class Child:
    """A child process, the leader of a session and a process group of its own.

    Attributes:
        pid: its process id and process group.
        spared: see there.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Dict[str, str],
        log: OutputTail,
        output_file_max_bytes: int,
        *,
        stdin: int = subprocess.DEVNULL,
        spared: Callable[[], AbstractSet[int]] = frozenset,
    ) -> None:
        """Spawn it, and forward its output.

        Args:
            argv: its command.
            env: its environment.
            log: gets its output.
            output_file_max_bytes: size at which a file that gets its output is emptied; 0: never.
            stdin: its standard input.
            spared: returns the descendants of the agent that are to survive it.

        Raises:
            SpawnError: the command cannot be executed, or there may not be more threads.
        """
        # A shell that starts the agent in the background ignores SIGINT for it, and the child would
        # inherit that.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            self._popen = subprocess.Popen(
                argv,
                env=env,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            raise SpawnError(f"the kernel's command {argv[0]!r} cannot be started: {exc}") from exc
        self.pid = self._popen.pid
        end_before_agent(self.pid)
        self.spared = spared
        self._stderr_tail = OutputTail(STDERR_TAIL_BYTES)
        tails = [log, self._stderr_tail]
        try:
            self._pumps = [
                _start_pump(self._popen.stdout, STDOUT, output_file_max_bytes, [log]),
                _start_pump(self._popen.stderr, STDERR, output_file_max_bytes, tails),
            ]
        except RuntimeError as exc:  # there may not be more threads
            self._popen.kill()
            self._popen.wait()
            raise SpawnError(f"the kernel's output cannot be read: {exc}") from exc

    def signal_group(self, signum: int) -> bool:
        """Signal the process group, as Jupyter does; return False if it is gone."""
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """Kill the process group and all descendants."""
        self.signal_group(signal.SIGKILL)
        signal_descendants(signal.SIGKILL, self.spared())

    def reaped(self, code: int) -> None:
        """Take note of its exit code, as in `Popen.returncode`."""
        self._popen.returncode = code

    def collect_exit(self, code: int, timeout: float) -> None:
        """End the descendants of the ended process, and wait for the last output. Blocks.

        Args:
            code: its exit code, from the reaper.
            timeout: seconds to wait for the output after the last writer was killed.
        """
        self.reaped(code)
        end_descendants(GRACE_SECONDS, END_TIMEOUT_SECONDS, self.spared)
        self.signal_group(signal.SIGKILL)
        end = time.monotonic() + timeout
        for pump in self._pumps:
            pump.join(max(end - time.monotonic(), 0))

    def stderr(self) -> str:
        """Return the last lines of stderr."""
        return self._stderr_tail.read(STDERR_TAIL_BYTES)


def _start_pump(
    source: Optional[IO[bytes]], target: int, file_max_bytes: int, tails: List[OutputTail]
) -> threading.Thread:
    args = (source, target, file_max_bytes, tails)
    pump = threading.Thread(target=_pump, args=args, daemon=True)
    pump.start()
    return pump


def _pump(source: IO[bytes], target: int, file_max_bytes: int, tails: List[OutputTail]) -> None:
    """Forward everything from a pipe; keep reading even if the target is closed."""
    is_target_open = True
    while True:
        chunk = source.read(CHUNK_BYTES)
        if not chunk:
            source.close()
            return
        for tail in tails:
            tail.append(chunk)
        view = memoryview(chunk)
        while view and is_target_open:
            try:
                if file_max_bytes and os.fstat(target).st_size > file_max_bytes:
                    os.ftruncate(target, 0)
                view = view[os.write(target, view) :]
            except OSError:
                is_target_open = False
