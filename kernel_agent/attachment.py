"""A kernel in another container, which a launcher of Enterprise Gateway started there.

The agent beside it, its companion, knows its ports and key, and the launcher's comm port
(`comm_port.py`), and nothing else: it sees no exit code and no output, and cannot start the kernel
again. That the kernel is dead it concludes from its heartbeat port. A busy kernel answers no
message, yet its sockets take connections; where nothing listens there is no kernel any more.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Optional

from kernel_agent.comm_port import CommPort
from kernel_agent.command import Attachment
from kernel_agent.connection_file import PORT_NAMES, ConnectionInfo
from kernel_agent.lifecycle import ExitReason
from kernel_agent.process import OutputTail, SpawnError

if TYPE_CHECKING:
    from kernel_agent.reaper import Reaper

PROBE_INTERVAL = 5.0
ALERT_INTERVAL = 0.2
"""Seconds between probes until the kernel listens, and once it is expected to end."""
ALERT_SECONDS = 15.0
PROBE_TIMEOUT = 2.0
REFUSED_SECONDS = 0.5
"""How long connections are refused until the kernel counts as dead."""
SILENT_SECONDS = 15.0
"""The same for connections that nobody answers: packets get lost, and hosts may be slow."""
KILL_SECONDS = 5.0
"""How long a kernel that was killed is waited for."""
_GONE = 0
"""In place of an exit code, which nobody here knows."""


class Probe(Enum):
    """What came of an attempt to connect."""

    TAKEN = "taken"
    REFUSED = "refused"
    SILENT = "silent"


class Pulse:
    """Decides by attempts to connect whether a kernel is alive. No I/O, no clock."""

    def __init__(self) -> None:
        self._has_been_seen = False
        self._missed_since: Optional[float] = None
        self._refused_since: Optional[float] = None

    @property
    def is_sure(self) -> bool:
        """Whether the latest attempt showed that the kernel is alive."""
        return self._has_been_seen and self._missed_since is None

    def note(self, probe: Probe, now: float) -> bool:
        """Take note of an attempt; return whether the kernel is dead.

        A launcher reports ports before it opens them: until it has, nothing follows from refusals.
        """
        if probe is Probe.TAKEN:
            self._has_been_seen = True
            self._missed_since = self._refused_since = None
            return False
        if not self._has_been_seen:
            return False
        if self._missed_since is None:
            self._missed_since = now
        if probe is not Probe.REFUSED:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        is_refused = self._refused_since is not None and (
            now - self._refused_since >= REFUSED_SECONDS
        )
        return is_refused or now - self._missed_since >= SILENT_SECONDS


class AttachedProcess:
    """A `launcher.KernelProcess` in another container."""

    def __init__(self, attachment: Attachment) -> None:
        info, comm_port = attachment
        self._info = info
        self._comm_port = CommPort(info.ip, comm_port) if comm_port else None
        self._comm_address = (info.ip, comm_port)
        self._exited: "Optional[asyncio.Future[int]]" = None
        self._watching: "Optional[asyncio.Task[None]]" = None
        self._alert_until = 0.0
        self._alert = asyncio.Event()

    def watch(self, reaper: "Reaper") -> "asyncio.Future[int]":  # noqa: ARG002  # it is no child
        """Return a future that is done when nothing listens at the kernel's ports any more."""
        loop = asyncio.get_running_loop()
        self._exited = loop.create_future()
        self._watching = loop.create_task(self._watch(self._exited))
        return self._exited

    async def connect(self) -> ConnectionInfo:
        """Return how to reach the kernel, which was known before the agent."""
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

    def let_go(self) -> None:
        """Look whether the kernel has ended: its launcher is told to end once it has."""
        self._be_alert()

    def kill(self) -> None:
        """Have the launcher kill the kernel. Blocks for a moment: the agent may be about to end."""
        with suppress(OSError), socket.create_connection(self._comm_address, 1.0) as connection:
            connection.sendall(json.dumps({"signum": int(signal.SIGKILL)}).encode())
        self._expect_end(KILL_SECONDS)

    def settle(self, code: int, timeout: float) -> None:
        """There is nothing to clear away here: the engine has the container."""

    def explain_exit(self, code: int, *, out_of_memory: bool) -> ExitReason:  # noqa: ARG002  # not known
        """Say what was seen of the end, which is not why: the engine may know that."""
        return ExitReason("the kernel has ended: nothing listens at its ports any more")

    def stderr(self) -> str:
        """Return nothing: the container's log has it."""
        return ""

    async def _watch(self, exited: "asyncio.Future[int]") -> None:
        loop = asyncio.get_running_loop()
        pulse = Pulse()
        address = (self._info.ip, self._info.ports["hb_port"])
        while not pulse.note(await probe(*address), loop.time()):
            is_alert = not pulse.is_sure or loop.time() < self._alert_until
            with suppress(asyncio.TimeoutError):
                interval = ALERT_INTERVAL if is_alert else PROBE_INTERVAL
                await asyncio.wait_for(self._alert.wait(), interval)
            self._alert.clear()
        if self._comm_port is not None:
            # Its listener keeps the launcher, and so the container, after the kernel's end.
            await self._comm_port.send(shutdown=1)
        self._end(exited)

    def _be_alert(self) -> None:
        if self._exited is not None:
            self._alert_until = self._exited.get_loop().time() + ALERT_SECONDS
            self._alert.set()

    def _expect_end(self, seconds: float) -> None:
        """Take the kernel for dead in some seconds, whatever its ports do: more cannot be done."""
        self._be_alert()
        if self._exited is not None and not self._exited.get_loop().is_closed():
            self._exited.get_loop().call_later(seconds, self._end, self._exited)

    def _end(self, exited: "asyncio.Future[int]") -> None:
        if not exited.done():
            exited.set_result(_GONE)
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()


class AttachLauncher:
    """A `launcher.Launcher` that starts nothing: there is a kernel, once.

    Attributes:
        log: empty.
    """

    def __init__(self, attachment: Attachment) -> None:
        self._attachment: Optional[Attachment] = attachment
        self.log = OutputTail(0)

    def spawn(self) -> AttachedProcess:
        """Attach to the kernel.

        Raises:
            SpawnError: it is not the first time.
        """
        attachment, self._attachment = self._attachment, None
        if attachment is None:
            raise SpawnError("a kernel in another container cannot be started again from here")
        return AttachedProcess(attachment)

    def release(self) -> None:
        """Nothing was given."""


async def probe(ip: str, port: int) -> Probe:
    """Try to connect, and leave at once."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(ip, port), PROBE_TIMEOUT)
    except ConnectionRefusedError:
        return Probe.REFUSED
    except (OSError, asyncio.TimeoutError):
        return Probe.SILENT
    writer.transport.abort()
    return Probe.TAKEN


def read_attachment(text: str) -> Attachment:
    """Decode `EG_AGENT_ATTACH` of the wire contract.

    Raises:
        ValueError: it is missing or malformed; its value is not told.
    """
    try:
        document = json.loads(text)
        ports = {name: int(document[name]) for name in PORT_NAMES}
        scheme, _, digest = document["signature_scheme"].partition("-")
        ip, key = document["ip"], document["key"]
        comm_port = int(document.get("comm_port", 0))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ValueError("EG_AGENT_ATTACH does not say how to reach a kernel") from exc
    if not (isinstance(ip, str) and isinstance(key, str) and scheme == "hmac" and digest):
        raise ValueError("EG_AGENT_ATTACH does not say how to reach a kernel")
    return Attachment(ConnectionInfo(ports, key, ip, digest), comm_port)
