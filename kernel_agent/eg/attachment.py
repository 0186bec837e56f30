"""A kernel in another container, which a launcher of Enterprise Gateway started there.

The agent in its sidecar knows the kernel's ports and key, and the launcher's comm port
(`comm_port.py`), but no exit code and no output, and it cannot start the kernel again. It detects
the kernel's death by connection attempts to the heartbeat port: a busy kernel answers no message,
but its sockets accept connections until its end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Mapping, Optional

from kernel_agent.eg.comm_port import CommPort
from kernel_agent.eg.liveness import LivenessProbe, ProbeResult
from kernel_agent.eg.spareless import SparelessSpawner
from kernel_agent.launch.command import Attachment
from kernel_agent.launch.connection_info import ConnectionInfo
from kernel_agent.process.child import OutputTail, SpawnError
from kernel_agent.process.exits import ExitReason

if TYPE_CHECKING:
    from kernel_agent.system.reaper import Reaper

PROBE_INTERVAL_SECONDS = 5.0
ALERT_INTERVAL_SECONDS = 0.2
"""Interval of probes until the kernel listens, and once it is expected to end."""
ALERT_SECONDS = 15.0
PROBE_TIMEOUT_SECONDS = 2.0
KILL_SECONDS = 5.0
"""How long to wait for the end of a killed kernel."""
_GONE = 0
"""Stands for the exit code, which is unknown here."""


class AttachedProcess:
    """A `spawner.KernelProcess` in another container."""

    imported_ahead = False

    def __init__(self, attachment: Attachment) -> None:
        info, comm_port = attachment
        self._info = info
        self._comm_port = CommPort(info.ip, comm_port) if comm_port else None
        self._comm_address = (info.ip, comm_port)
        self._exited: "Optional[asyncio.Future[int]]" = None
        self._watching: "Optional[asyncio.Task[None]]" = None
        self._liveness = LivenessProbe()
        self._alert_until = 0.0
        self._alert = asyncio.Event()

    def watch(self, reaper: "Reaper") -> "asyncio.Future[int]":  # noqa: ARG002  # not a child process
        """Return a future that is done when the heartbeat port no longer accepts connections."""
        loop = asyncio.get_running_loop()
        self._exited = loop.create_future()
        self._watching = loop.create_task(self._watch(self._exited))
        return self._exited

    async def connect(self) -> ConnectionInfo:
        """Return the connection info, known from the start."""
        return self._info

    async def interrupt(self, signum: int) -> None:
        """Have the launcher signal the kernel."""
        if self._comm_port is not None:
            await self._comm_port.send(signum=signum)

    async def signal(self, signum: int) -> None:
        """Have the launcher signal the kernel."""
        await self.interrupt(signum)
        if signum == signal.SIGKILL:
            self._expect_end(KILL_SECONDS)

    def release_parent(self) -> None:
        """Probe often: once the kernel has ended, its launcher is told to end.

        The kernel has answered or closed its connections, so it has listened, even if it dies
        before any probe.
        """
        self._liveness.confirm_started()
        self._probe_often()

    def kill(self) -> None:
        """Have the launcher kill the kernel. Blocks up to 1 s: the agent may be about to end."""
        with suppress(OSError), socket.create_connection(self._comm_address, 1.0) as connection:
            connection.sendall(json.dumps({"signum": int(signal.SIGKILL)}).encode())
        self._expect_end(KILL_SECONDS)

    def collect_exit(self, code: int, timeout: float) -> None:
        """Do nothing: the engine owns the other container."""

    def explain_exit(self, code: int, *, out_of_memory: bool) -> ExitReason:  # noqa: ARG002  # unknown here
        """Return what the agent observed; only the engine may know the reason."""
        return ExitReason("the kernel has ended: nothing listens at its ports any more")

    def stderr(self) -> str:
        """Return nothing: stderr is in the container's log."""
        return ""

    async def _watch(self, exited: "asyncio.Future[int]") -> None:
        loop = asyncio.get_running_loop()
        address = (self._info.ip, self._info.ports["hb_port"])
        while not self._liveness.record(await probe(*address), loop.time()):
            is_alert = not self._liveness.is_known_alive or loop.time() < self._alert_until
            with suppress(asyncio.TimeoutError):
                interval = ALERT_INTERVAL_SECONDS if is_alert else PROBE_INTERVAL_SECONDS
                await asyncio.wait_for(self._alert.wait(), interval)
            self._alert.clear()
        if self._comm_port is not None:
            # The launcher's listener would keep the container running after the kernel's end.
            await self._comm_port.send(shutdown=1)
        self._end(exited)

    def _probe_often(self) -> None:
        if self._exited is not None:
            self._alert_until = self._exited.get_loop().time() + ALERT_SECONDS
            self._alert.set()

    def _expect_end(self, seconds: float) -> None:
        """Count the kernel as dead after some seconds, even if its port still accepts."""
        self._probe_often()
        if self._exited is not None and not self._exited.get_loop().is_closed():
            self._exited.get_loop().call_later(seconds, self._end, self._exited)

    def _end(self, exited: "asyncio.Future[int]") -> None:
        if not exited.done():
            exited.set_result(_GONE)
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()


class AttachSpawner(SparelessSpawner):
    """A `spawner.KernelSpawner` that starts nothing and attaches once to a kernel.

    Attributes:
        log: empty.
    """

    def __init__(self, attachment: Attachment) -> None:
        self._attachment: Optional[Attachment] = attachment
        self.log = OutputTail(0)

    def spawn(self) -> AttachedProcess:
        """Attach to the kernel.

        Raises:
            SpawnError: it was attached before.
        """
        attachment, self._attachment = self._attachment, None
        if attachment is None:
            raise SpawnError("a kernel in another container cannot be started again from here")
        return AttachedProcess(attachment)

    def change_environment(
        self,
        changes: Mapping[str, Optional[str]],
        *,
        suits_spare: bool,
    ) -> None:
        """Do nothing: there are no later processes."""

    def release(self) -> None:
        """Do nothing: there is nothing to release."""


async def probe(ip: str, port: int) -> ProbeResult:
    """Try to connect, and close the connection at once."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(ip, port), PROBE_TIMEOUT_SECONDS)
    except ConnectionRefusedError:
        return ProbeResult.REFUSED
    except (OSError, asyncio.TimeoutError):
        return ProbeResult.NO_ANSWER
    writer.transport.abort()
    return ProbeResult.ACCEPTED
