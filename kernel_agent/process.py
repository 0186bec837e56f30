"""One kernel process: spawned, signalled, its output passed on, its end explained.

Importing this must stay cheap: it runs before the kernel is spawned, everything else is imported
while the kernel boots.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import IO, Dict, List, Optional, Sequence, Tuple

from kernel_agent.connection_file import (
    ConnectionInfo,
    PortReservation,
    remove_connection_file,
    write_connection_file,
)
from kernel_agent.lifecycle import ExitReason

LOG_TAIL_BYTES = 65536
STDERR_TAIL_BYTES = 4096
CHUNK_BYTES = 65536
STDOUT = 1
STDERR = 2
CONNECTION_FILE_FIELD = "{connection_file}"


class SpawnError(Exception):
    """The kernel's command cannot be executed; the text says why."""


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


class KernelProcess:
    """A running kernel process, the leader of a process group of its own.

    Attributes:
        pid: its process id and process group.
        info: how to reach it.
    """

    def __init__(
        self,
        popen: "subprocess.Popen[bytes]",
        info: ConnectionInfo,
        log: OutputTail,
        output_file_max_bytes: int,
    ) -> None:
        self._popen = popen
        self._stderr_tail = OutputTail(STDERR_TAIL_BYTES)
        self.pid = popen.pid
        self.info = info
        self._pumps = [
            _start_pump(popen.stdout, STDOUT, output_file_max_bytes, [log]),
            _start_pump(popen.stderr, STDERR, output_file_max_bytes, [log, self._stderr_tail]),
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

    def explain_exit(self, code: int, *, out_of_memory: bool) -> ExitReason:
        """Say why the process ended; a negative code is a signal, as in `Popen.returncode`."""
        return explain_exit(code, out_of_memory=out_of_memory, stderr=self.stderr())

    def stderr(self) -> str:
        """Return the last lines of stderr."""
        return self._stderr_tail.read(STDERR_TAIL_BYTES)


class Launcher:
    """Starts processes of one kernel, one after the other, with the same connection file path.

    Attributes:
        log: the end of what all of them printed.
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

    def spawn(self) -> KernelProcess:
        """Start a process with fresh ports and a fresh key.

        Raises:
            SpawnError: the command cannot be executed, or there are no ports.
        """
        self.release()
        # A shell that starts the agent in the background has SIGINT ignored, and the kernel would
        # inherit that.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            self._ports = PortReservation(self._port_range)
            info = ConnectionInfo(self._ports.ports, os.urandom(32).hex())
            write_connection_file(self._connection_file, info)
            popen = subprocess.Popen(
                self._argv,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            self.release()
            raise SpawnError(
                f"the kernel's command {self._argv[0]!r} cannot be started: {exc}"
            ) from exc
        return KernelProcess(popen, info, self.log, self._output_file_max_bytes)

    def release(self) -> None:
        """Remove the connection file and give the ports back."""
        remove_connection_file(self._connection_file)
        if self._ports is not None:
            self._ports.release()
            self._ports = None


def explain_exit(code: int, *, out_of_memory: bool, stderr: str) -> ExitReason:
    """Turn an exit code, negative for a signal, into words."""
    if code >= 0:
        return ExitReason(f"the kernel exited with code {code}", exit_code=code, stderr=stderr)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    is_oom = out_of_memory and -code == signal.SIGKILL
    suffix = " (out of memory)" if is_oom else ""
    return ExitReason(
        f"the kernel was killed by {name}{suffix}", signal=name, out_of_memory=is_oom, stderr=stderr
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
