"""A kernel as an ordinary command: spawned, signalled, its output passed on, its end explained.

Importing this must stay cheap: it runs before the kernel is spawned, everything else is imported
while the kernel boots.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import IO, TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

from kernel_agent.connection_file import (
    ConnectionInfo,
    PortReservation,
    remove_connection_file,
    write_connection_file,
)
from kernel_agent.lifecycle import ExitReason

if TYPE_CHECKING:
    import asyncio

    from kernel_agent.reaper import Reaper

LOG_TAIL_BYTES = 65536
STDERR_TAIL_BYTES = 4096
CHUNK_BYTES = 65536
STDOUT = 1
STDERR = 2
CONNECTION_FILE_FIELD = "{connection_file}"


class SpawnError(Exception):
    """The kernel cannot be started, or did not say how to reach it; the text says why."""


class OutputTail:
    """The last bytes of a stream. Written by one thread, read by another."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = b""

    def append(self, chunk: bytes) -> None:
        """Add a chunk, forgetting what exceeds the limit."""
        self._data = (self._data + chunk)[-self._max_bytes :]

    def read(self, max_bytes: int) -> str:
        """Return at most the last `max_bytes` as text."""
        data = self._data[-max_bytes:] if max_bytes else b""
        return data.decode("utf-8", errors="replace")


class Child:
    """A child process, the leader of a session and a process group of its own.

    Attributes:
        pid: its process id and process group.
    """

    def __init__(
        self, argv: Sequence[str], env: Dict[str, str], log: OutputTail, output_file_max_bytes: int
    ) -> None:
        """Spawn it, and pass on what it prints.

        Raises:
            SpawnError: the command cannot be executed.
        """
        # A shell that starts the agent in the background has SIGINT ignored, and the child would
        # inherit that.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            self._popen = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            raise SpawnError(f"the kernel's command {argv[0]!r} cannot be started: {exc}") from exc
        self.pid = self._popen.pid
        self._stderr_tail = OutputTail(STDERR_TAIL_BYTES)
        tails = [log, self._stderr_tail]
        self._pumps = [
            _start_pump(self._popen.stdout, STDOUT, output_file_max_bytes, [log]),
            _start_pump(self._popen.stderr, STDERR, output_file_max_bytes, tails),
        ]

    def signal_group(self, signum: int) -> bool:
        """Signal the process and its children, as Jupyter does; return False if they are gone."""
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def set_exit_code(self, code: int) -> None:
        """Take note that the process was reaped by somebody else, with this `Popen.returncode`."""
        self._popen.returncode = code

    def wait_for_output(self, timeout: float) -> None:
        """Wait until all output was passed on; children that live on may keep it open. Blocks."""
        for pump in self._pumps:
            pump.join(timeout / len(self._pumps))

    def stderr(self) -> str:
        """Return the last lines of stderr."""
        return self._stderr_tail.read(STDERR_TAIL_BYTES)


class CommandProcess:
    """A `launcher.KernelProcess` that was told its ports and key by a connection file."""

    def __init__(self, child: Child, info: ConnectionInfo) -> None:
        self._child = child
        self._info = info

    def watch(self, reaper: "Reaper") -> "asyncio.Future[int]":
        """Return a future of the exit code."""
        return reaper.watch(self._child.pid)

    async def connect(self) -> ConnectionInfo:
        """Return how to reach the kernel, which is known from the start."""
        return self._info

    async def interrupt(self, signum: int) -> None:
        """Signal the process group, as Jupyter does."""
        self._child.signal_group(signum)

    async def signal(self, signum: int) -> None:
        """Signal the process group, as Jupyter does."""
        self._child.signal_group(signum)

    def let_go(self) -> None:
        """Nothing keeps the process but itself."""

    def kill(self) -> None:
        """Kill the process group."""
        self._child.signal_group(signal.SIGKILL)

    def settle(self, code: int, timeout: float) -> None:
        """Kill what is left of the process group and wait for the last output."""
        self._child.set_exit_code(code)
        self.kill()
        self._child.wait_for_output(timeout)

    def explain_exit(self, code: int, *, out_of_memory: bool) -> ExitReason:
        """Say why the process ended."""
        return explain_exit(code, out_of_memory=out_of_memory, stderr=self.stderr())

    def stderr(self) -> str:
        """Return the last lines of stderr."""
        return self._child.stderr()


class CommandLauncher:
    """A `launcher.Launcher` of one command, always with the same connection file path.

    Attributes:
        log: the end of what all processes printed.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Dict[str, str],
        port_range: Tuple[int, int],
        connection_file: str,
        output_file_max_bytes: int = 0,
    ) -> None:
        self._output_file_max_bytes = output_file_max_bytes
        self._argv = [word.replace(CONNECTION_FILE_FIELD, connection_file) for word in argv]
        # ipykernel ends when its parent is gone.
        self._env = {**env, "JPY_PARENT_PID": str(os.getpid())}
        self._port_range = port_range
        self._connection_file = connection_file
        self._ports: Optional[PortReservation] = None
        self.log = OutputTail(LOG_TAIL_BYTES)

    def spawn(self) -> CommandProcess:
        """Start a process with fresh ports and a fresh key.

        Raises:
            SpawnError: the command cannot be executed, or there are no ports.
        """
        self.release()
        try:
            self._ports = PortReservation(self._port_range)
            info = ConnectionInfo(self._ports.ports, os.urandom(32).hex())
            write_connection_file(self._connection_file, info)
            child = Child(self._argv, self._env, self.log, self._output_file_max_bytes)
        except OSError as exc:
            self.release()
            raise SpawnError(
                f"the kernel's command {self._argv[0]!r} cannot be started: {exc}"
            ) from exc
        except SpawnError:
            self.release()
            raise
        return CommandProcess(child, info)

    def release(self) -> None:
        """Remove the connection file and give the ports back."""
        remove_connection_file(self._connection_file)
        if self._ports is not None:
            self._ports.release()
            self._ports = None


def explain_exit(
    code: int, *, out_of_memory: bool, stderr: str, who: str = "the kernel"
) -> ExitReason:
    """Turn an exit code, negative for a signal, into words."""
    if code >= 0:
        return ExitReason(f"{who} exited with code {code}", exit_code=code, stderr=stderr)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    is_oom = out_of_memory and -code == signal.SIGKILL
    suffix = " (out of memory)" if is_oom else ""
    return ExitReason(
        f"{who} was killed by {name}{suffix}", signal=name, out_of_memory=is_oom, stderr=stderr
    )


def _start_pump(
    source: Optional[IO[bytes]], target: int, file_max_bytes: int, tails: List[OutputTail]
) -> threading.Thread:
    args = (source, target, file_max_bytes, tails)
    pump = threading.Thread(target=_pump, args=args, daemon=True)
    pump.start()
    return pump


def _pump(source: IO[bytes], target: int, file_max_bytes: int, tails: List[OutputTail]) -> None:
    """Pass on everything that comes from a pipe. A target that is gone does not end that."""
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
