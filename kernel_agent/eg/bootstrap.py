"""A kernel that the launcher of Enterprise Gateway's images starts.

The agent runs the image's `bootstrap-kernel.sh` as Enterprise Gateway does, and takes Enterprise
Gateway's place: the launcher reports the kernel's ports to a loopback port of the agent
(`payload.py`) and takes signals at its comm port (`comm_port.py`). Such a launcher consists of a
shell, the kernel and a listener, and does not end before its listener.

The port is open only while a report is awaited, and only on loopback. A process that can connect to
it and knows the public key could pass for the launcher; that is the security of Enterprise
Gateway's own scheme, inside one container.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Dict, Mapping, Optional, Tuple

from kernel_agent.eg.rsa import PrivateKey, generate_key, public_key_info
from kernel_agent.eg.spareless import SparelessSpawner
from kernel_agent.launch.connection_info import LOOPBACK, ConnectionInfo
from kernel_agent.process.child import (
    LOG_TAIL_BYTES,
    Child,
    OutputTail,
    SpawnError,
    changed_environment,
)
from kernel_agent.process.exits import ExitReason, explain_exit, read_shared_memory
from kernel_agent.system.descendants import is_descendant, signal_descendants

if TYPE_CHECKING:
    import asyncio

    from kernel_agent.eg.comm_port import CommPort
    from kernel_agent.system.reaper import Reaper

INFO_LEVEL = "20"


class BootstrapProcess:
    """A `spawner.KernelProcess`: a launch script and its descendants."""

    imported_ahead = False

    def __init__(
        self, child: Child, listener: socket.socket, key: PrivateKey, kernel_id: str
    ) -> None:
        self._child = child
        self._listener = listener
        self._key = key
        self._kernel_id = kernel_id
        self._has_reported = False
        self._kernel_pid: Optional[int] = None
        """None: unknown; the kernel is then assumed to be the script itself, as after exec."""
        self._comm_port: "Optional[CommPort]" = None
        self._releasing: "Optional[asyncio.Task[bool]]" = None

    def watch(self, reaper: "Reaper") -> "asyncio.Future[int]":
        """Return a future of the script's exit code."""
        return reaper.watch(self._child.pid)

    async def connect(self) -> ConnectionInfo:
        """Return the connection info that the launcher reports.

        Raises:
            SpawnError: the report is invalid.
        """
        from kernel_agent.eg.comm_port import CommPort  # noqa: PLC0415  # the kernel boots
        from kernel_agent.eg.payload import PayloadError, decode_payload  # noqa: PLC0415  # likewise
        from kernel_agent.eg.payload_server import receive_payload  # noqa: PLC0415  # likewise

        try:
            data = await receive_payload(self._listener)
            report = decode_payload(data, self._key, self._kernel_id)
        except PayloadError as exc:
            raise SpawnError(f"the report of the kernel's launcher is invalid: {exc}") from exc
        self._has_reported = True
        if report.pid is not None and is_descendant(report.pid):
            self._kernel_pid = report.pid
        if report.comm_port is not None:
            self._comm_port = CommPort(report.info.ip, report.comm_port)
        return report.info

    async def interrupt(self, signum: int) -> None:
        """Have the launcher signal the kernel; if it does not listen, signal the kernel directly.

        A stopped kernel is continued, so that it handles the signal.
        """
        await self._send_signal(signum)
        self._signal_kernel(signal.SIGCONT)

    async def signal(self, signum: int) -> None:
        """Signal all processes with SIGTERM or SIGKILL, but only the kernel with other signals.

        Many of those would kill the listener and the shell that waits for the kernel.
        """
        if signum == signal.SIGKILL:
            self.kill()
        elif signum == signal.SIGTERM:
            self._terminate()
        else:
            await self._send_signal(signum)

    def release_parent(self) -> None:
        """Continue a stopped kernel; end the launcher's listener, which would outlive it."""
        self._signal_kernel(signal.SIGCONT)
        import asyncio  # noqa: PLC0415  # not before the kernel is spawned

        if self._comm_port is not None and self._releasing is None:
            request = self._comm_port.send(shutdown=1)
            self._releasing = asyncio.get_running_loop().create_task(request)

    def kill(self) -> None:
        """Kill the script and all its descendants."""
        self._child.kill()

    def collect_exit(self, code: int, timeout: float) -> None:
        """End the descendants and wait for the last output."""
        self._child.collect_exit(code, timeout)

    def explain_exit(self, code: int, *, out_of_memory: bool) -> ExitReason:
        """Return why the script ended: by itself, or with the kernel."""
        from kernel_agent.system.cgroup import memory_limit  # noqa: PLC0415  # the kernel boots

        stderr = self.stderr()
        who = "the kernel"
        if code >= 0 and self._kernel_pid != self._child.pid:
            signum = find_fatal_signal(stderr, self._kernel_pid, out_of_memory=out_of_memory)
            code = -signum if signum else code
            who = "the kernel" if signum else "the kernel's launch script"
        reason = explain_exit(
            code,
            out_of_memory=out_of_memory,
            stderr=stderr,
            who=who,
            shared_memory=read_shared_memory(),
            memory_limit=memory_limit(),
        )
        if self._has_reported:
            return reason
        text = f"{reason.message} before its launcher reported how to reach it"
        return reason._replace(message=text)

    def stderr(self) -> str:
        """Return the last lines of stderr."""
        return self._child.stderr()

    async def _send_signal(self, signum: int) -> None:
        if self._comm_port is None or not await self._comm_port.send(signum=signum):
            self._signal_kernel(signum)

    def _signal_kernel(self, signum: int) -> None:
        if self._kernel_pid is None:
            self._child.signal_group(signum)
            return
        with suppress(ProcessLookupError):
            os.kill(self._kernel_pid, signum)

    def _terminate(self) -> None:
        """Send SIGTERM to all descendants, but not to the script, which ends after the kernel."""
        is_script = self._kernel_pid not in (None, self._child.pid)
        signal_descendants(signal.SIGTERM, {self._child.pid} if is_script else frozenset())


class BootstrapSpawner(SparelessSpawner):
    """A `spawner.KernelSpawner` of an image's `bootstrap-kernel.sh`.

    Attributes:
        log: the last output of all its processes.
    """

    def __init__(
        self,
        script: str,
        env: Dict[str, str],
        kernel_id: str,
        port_range: Tuple[int, int],
        output_file_max_bytes: int = 0,
    ) -> None:
        self._script = script
        self._env = env
        self._kernel_id = kernel_id
        self._port_range = port_range
        self._output_file_max_bytes = output_file_max_bytes
        self._key = generate_key()
        self._listener: Optional[socket.socket] = None
        self.log = OutputTail(LOG_TAIL_BYTES)

    def spawn(self) -> BootstrapProcess:
        """Start the script, with a new port for its launcher's report.

        Raises:
            SpawnError: the script cannot be executed.
        """
        self.release()
        self._listener = socket.create_server((LOOPBACK, 0))
        env = script_environment(
            self._env,
            response_address=f"{LOOPBACK}:{self._listener.getsockname()[1]}",
            public_key=base64.b64encode(public_key_info(self._key)).decode(),
            port_range=self._port_range,
        )
        try:
            child = Child([self._script], env, self.log, self._output_file_max_bytes)
        except SpawnError:
            self.release()
            raise
        return BootstrapProcess(child, self._listener, self._key, self._kernel_id)

    def change_environment(
        self,
        changes: Mapping[str, Optional[str]],
        *,
        suits_spare: bool,  # noqa: ARG002  # there is none
    ) -> None:
        """Set variables for later processes, or unset those that are None."""
        self._env = changed_environment(self._env, changes)

    def release(self) -> None:
        """Close the port for the launcher's report."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def script_environment(
    env: Mapping[str, str], *, response_address: str, public_key: str, port_range: Tuple[int, int]
) -> Dict[str, str]:
    """Return the environment of Enterprise Gateway's `bootstrap-kernel.sh`.

    Older scripts read the names with the prefix `EG_`. The log level defaults to INFO, since the
    launchers' own default is DEBUG, at which they print the kernel's key.
    """
    contract = {
        "RESPONSE_ADDRESS": response_address,
        "PUBLIC_KEY": public_key,
        "PORT_RANGE": "{}..{}".format(*port_range),
    }
    twins = {f"EG_{name}": value for name, value in contract.items()}
    return {"EG_LOG_LEVEL": INFO_LEVEL, **env, **contract, **twins}


def find_fatal_signal(stderr: str, pid: Optional[int], *, out_of_memory: bool) -> int:
    """Return the signal that ended a child of a shell script, 0 if none is known.

    The exit code of a script that continues after its child's death does not show the signal, but
    bash reports it on stderr: `FILE: line N: PID Killed    COMMAND`.

    Args:
        stderr: the last lines of the script's stderr.
        pid: process id of the child; None: any.
        out_of_memory: whether the kernel ran out of memory, for a bash with another language.
    """
    number = r"\d+" if pid is None else str(pid)
    told = rf": line \d+: +{number} (\S.*?)(?: \(core dumped\))?(?:  |$)"
    found = re.findall(told, stderr, re.MULTILINE)
    if not found:
        return 0
    for signum in signal.valid_signals():
        if signal.strsignal(signum) == found[-1]:
            return signum
    return signal.SIGKILL if out_of_memory else 0
