"""A kernel as an ordinary command: spawned, signalled, its output forwarded, its end explained.

Importing this must stay cheap, since it is imported before the kernel is spawned; most other
modules are imported while the kernel boots.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import IO, TYPE_CHECKING, Dict, List, NamedTuple, Optional, Sequence, Tuple

from kernel_agent.kernel.lifecycle import ExitReason
from kernel_agent.launch.connection_file import (
    PortReservation,
    remove_connection_file,
    write_connection_file,
)
from kernel_agent.launch.connection_info import ConnectionInfo
from kernel_agent.system.descendants import end_descendants, signal_descendants

if TYPE_CHECKING:
    import asyncio

    from kernel_agent.system.reaper import Reaper

LOG_TAIL_BYTES = 65536
STDERR_TAIL_BYTES = 4096
CHUNK_BYTES = 65536
GRACE_SECONDS = 0.3
"""How long the descendants of an ended kernel may take to end by themselves."""
END_TIMEOUT_SECONDS = 5.0
"""How long to wait until its descendants have ended."""
DOCKER_SHM_BYTES = 64 * 1024 * 1024
"""Default size of /dev/shm in a container."""
STDOUT = 1
STDERR = 2
CONNECTION_FILE_FIELD = "{connection_file}"


class SpawnError(Exception):
    """The kernel cannot be started, or did not report its ports; the text gives the reason."""


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
    """

    def __init__(
        self, argv: Sequence[str], env: Dict[str, str], log: OutputTail, output_file_max_bytes: int
    ) -> None:
        """Spawn it, and forward its output.

        Raises:
            SpawnError: the command cannot be executed.
        """
        # A shell that starts the agent in the background ignores SIGINT for it, and the child would
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
        """Signal the process group, as Jupyter does; return False if it is gone."""
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """Kill the process group and all descendants."""
        self.signal_group(signal.SIGKILL)
        signal_descendants(signal.SIGKILL)

    def collect_exit(self, code: int, timeout: float) -> None:
        """End the descendants of the ended process, and wait for the last output. Blocks.

        Args:
            code: its exit code as in `Popen.returncode`, from the reaper.
            timeout: seconds to wait for the output after the last writer was killed.
        """
        self._popen.returncode = code
        end_descendants(GRACE_SECONDS, END_TIMEOUT_SECONDS)
        self.signal_group(signal.SIGKILL)
        end = time.monotonic() + timeout
        for pump in self._pumps:
            pump.join(max(end - time.monotonic(), 0))

    def stderr(self) -> str:
        """Return the last lines of stderr."""
        return self._stderr_tail.read(STDERR_TAIL_BYTES)


class CommandProcess:
    """A `spawner.KernelProcess` that reads its ports and key from a connection file."""

    def __init__(self, child: Child, info: ConnectionInfo) -> None:
        self._child = child
        self._info = info

    def watch(self, reaper: "Reaper") -> "asyncio.Future[int]":
        """Return a future of the exit code."""
        return reaper.watch(self._child.pid)

    async def connect(self) -> ConnectionInfo:
        """Return the connection info, known from the start."""
        return self._info

    async def interrupt(self, signum: int) -> None:
        """Signal the process group, as Jupyter does, and continue a stopped process."""
        self._child.signal_group(signum)
        self._child.signal_group(signal.SIGCONT)

    async def signal(self, signum: int) -> None:
        """Signal the process group, as Jupyter does."""
        self._child.signal_group(signum)

    def release_parent(self) -> None:
        """Continue a stopped process, which could not end otherwise."""
        self._child.signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process and all its descendants."""
        self._child.kill()

    def collect_exit(self, code: int, timeout: float) -> None:
        """End the descendants and wait for the last output."""
        self._child.collect_exit(code, timeout)

    def explain_exit(self, code: int, *, out_of_memory: bool) -> ExitReason:
        """Return why the process ended."""
        return explain_exit(
            code,
            out_of_memory=out_of_memory,
            stderr=self.stderr(),
            shared_memory=read_shared_memory(),
        )

    def stderr(self) -> str:
        """Return the last lines of stderr."""
        return self._child.stderr()


class CommandSpawner:
    """A `spawner.KernelSpawner` of one command, always with the same connection file path.

    Attributes:
        log: the last output of all its processes.
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
        # ipykernel ends when this process is gone.
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
        """Remove the connection file and release the ports."""
        remove_connection_file(self._connection_file)
        if self._ports is not None:
            self._ports.release()
            self._ports = None


class SharedMemory(NamedTuple):
    """Size and free space of /dev/shm, in bytes."""

    size: int
    free: int

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


def explain_exit(
    code: int,
    *,
    out_of_memory: bool,
    stderr: str,
    who: str = "the kernel",
    shared_memory: Optional[SharedMemory] = None,
) -> ExitReason:
    """Describe an exit code, negative for a signal."""
    if code >= 0:
        return ExitReason(f"{who} exited with code {code}", exit_code=code, stderr=stderr)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    is_oom = out_of_memory and -code == signal.SIGKILL
    suffix = " (out of memory)" if is_oom else ""
    if -code == signal.SIGBUS and shared_memory is not None and shared_memory.is_scarce:
        suffix = (
            f" (its shared memory, /dev/shm, of {shared_memory.size >> 20} MiB was probably full: "
            "shm_size in the kernelspec's config gives a container more)"
        )
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
