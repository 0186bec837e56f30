"""A kernel as an ordinary command, which reads its ports and key from a connection file."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, AbstractSet, Callable, Dict, Mapping, Optional, Sequence, Tuple

from kernel_agent.launch.connection_file import (
    PortReservation,
    remove_connection_file,
    write_connection_file,
)
from kernel_agent.launch.connection_info import ConnectionInfo
from kernel_agent.process.child import (
    LOG_TAIL_BYTES,
    Child,
    OutputTail,
    SpawnError,
    changed_environment,
)
from kernel_agent.process.exits import ExitReason, explain_exit, read_shared_memory

if TYPE_CHECKING:
    import asyncio

    from kernel_agent.process.spares import Spares
    from kernel_agent.system.cgroup import OomCounter
    from kernel_agent.system.reaper import Reaper

CONNECTION_FILE_FIELD = "{connection_file}"


class CommandProcess:
    """A `spawner.KernelProcess` that reads its ports and key from a connection file."""

    def __init__(
        self,
        child: Child,
        info: ConnectionInfo,
        exited: "Optional[asyncio.Future[int]]" = None,
        *,
        imported_ahead: bool = False,
    ) -> None:
        self._child = child
        self._info = info
        self._exited = exited
        self.imported_ahead = imported_ahead

    def watch(self, reaper: "Reaper") -> "asyncio.Future[int]":
        """Return a future of the exit code."""
        return self._exited or reaper.watch(self._child.pid)

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
        from kernel_agent.system.cgroup import memory_limit  # noqa: PLC0415  # kernel first

        return explain_exit(
            code,
            out_of_memory=out_of_memory,
            stderr=self.stderr(),
            shared_memory=read_shared_memory(),
            memory_limit=memory_limit(),
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
        *,
        preload: Sequence[str] = (),
        has_spares: bool = False,
        is_pooled: bool = False,
    ) -> None:
        """Prepare.

        Args:
            argv: the command, with `{connection_file}` for the path.
            env: its environment.
            port_range: where its ports are taken from.
            connection_file: the path.
            output_file_max_bytes: size at which a file that gets its output is emptied; 0: never.
            preload: modules to import before a user needs them, if it is ipykernel.
            has_spares: whether there is a spare for restarts, if it is ipykernel.
            is_pooled: whether the first process waits for its user, and so can import them, too.
        """
        self._preload = tuple(preload)
        self._has_spares = has_spares
        self._is_pooled = is_pooled
        self._spares: "Optional[Spares]" = None
        self._output_file_max_bytes = output_file_max_bytes
        self._argv = [word.replace(CONNECTION_FILE_FIELD, connection_file) for word in argv]
        # ipykernel ends when this process is gone.
        self._env = {**env, "JPY_PARENT_PID": str(os.getpid())}
        self._port_range = port_range
        self._connection_file = connection_file
        self._ports: Optional[PortReservation] = None
        self.log = OutputTail(LOG_TAIL_BYTES)

    def spawn(self) -> CommandProcess:
        """Start the first process with fresh ports and a fresh key.

        Raises:
            SpawnError: the command cannot be executed, or there are no ports.
        """
        return self._spawn(self._preload if self._is_pooled else ())

    @property
    def has_spare(self) -> bool:
        """Whether the next respawn takes a process that is ready."""
        return self._spares is not None and self._spares.is_ready

    def prepare(
        self,
        reaper: "Reaper",
        oom: "OomCounter",
        is_quiet: Callable[[float], bool],
        changed: Callable[[], None],
    ) -> None:
        """Start a spare once the kernel is quiet, if its command can have one."""
        if not self._has_spares:
            return
        from kernel_agent.process.spare_command import spare_command  # noqa: PLC0415  # kernel first
        from kernel_agent.process.spares import Spares  # noqa: PLC0415  # likewise

        command = spare_command(self._argv)
        if command is None:
            self._has_spares = False
            return
        if self._spares is None:
            limit = self._output_file_max_bytes
            self._spares = Spares(command, self._env, self.log, limit)
        preload = () if self._is_pooled else self._preload
        self._spares.schedule(preload, reaper, oom, is_quiet, changed)

    async def respawn(self) -> CommandProcess:
        """Have the spare go on with fresh ports and a fresh key; without one, start a process.

        Raises:
            SpawnError: the command cannot be executed, or there are no ports.
        """
        if self._spares is not None:
            info = self._connection_info()
            spare = await self._spares.take()
            if spare is not None:
                child, is_ahead = spare.child, not spare.is_anew
                child.spared = self._spared
                return CommandProcess(child, info, spare.exited, imported_ahead=is_ahead)
        return self._spawn()

    def change_environment(
        self, changes: Mapping[str, Optional[str]], *, suits_spare: bool
    ) -> None:
        """Set variables for later processes, or unset those that are None.

        A spare that does not suit ends. One that was started in the pool has preloaded nothing,
        since modules may read any variable.
        """
        self._is_pooled = False
        self._env = changed_environment(self._env, changes)
        if self._spares is not None:
            self._spares.change_environment(changes)
            if not suits_spare:
                self._spares.discard()

    def release(self) -> None:
        """End the spare, remove the connection file and release the ports."""
        if self._spares is not None:
            self._spares.end()
        self._release_ports()

    def _spawn(self, preload: Sequence[str] = ()) -> CommandProcess:
        try:
            info = self._connection_info()
            ahead = self._spawn_ahead(preload) if preload else None
            argv, limit = self._argv, self._output_file_max_bytes
            child = ahead or Child(argv, self._env, self.log, limit, spared=self._spared)
        except SpawnError:
            self._release_ports()
            raise
        return CommandProcess(child, info, imported_ahead=ahead is not None)

    def _spawn_ahead(self, preload: Sequence[str]) -> Optional[Child]:
        """Start a process that imports ahead; return None if there can be none."""
        from kernel_agent.process.ahead import spawn_ahead  # noqa: PLC0415  # few kernels need it
        from kernel_agent.process.spare_command import spare_command  # noqa: PLC0415  # likewise

        command = spare_command(self._argv)
        if command is None:
            return None
        limit, spared = self._output_file_max_bytes, self._spared
        try:
            child, channel = spawn_ahead(
                command, preload, self._env, self.log, limit, waits=False, spared=spared
            )
        except OSError:  # without a channel it starts as ever
            return None
        channel.close()
        return child

    def _spared(self) -> AbstractSet[int]:
        return self._spares.pids if self._spares is not None else frozenset()

    def _connection_info(self) -> ConnectionInfo:
        self._release_ports()
        try:
            self._ports = PortReservation(self._port_range)
            info = ConnectionInfo(self._ports.ports, os.urandom(32).hex())
            write_connection_file(self._connection_file, info)
        except OSError as exc:
            self._release_ports()
            raise SpawnError(
                f"the kernel's command {self._argv[0]!r} cannot be started: {exc}"
            ) from exc
        return info

    def _release_ports(self) -> None:
        remove_connection_file(self._connection_file)
        if self._ports is not None:
            self._ports.release()
            self._ports = None
