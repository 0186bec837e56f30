"""The connections to the sockets of one kernel process, shared by all clients.

Sent messages are signed, since kernels require it; received ones are not verified. They arrive over
loopback connections that the agent opened itself, and verification would cost as much as all other
work on a message.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections import deque
from functools import partial
from typing import Callable, Deque, Dict, List, Optional, Sequence, Tuple

from kernel_agent.channels.read_batching import ReadBatching
from kernel_agent.launch.connection_info import ConnectionInfo
from kernel_agent.wire.backlog import Backlog
from kernel_agent.wire.message import CONTROL, DELIMITER, IOPUB, SHELL, STDIN, Message, split_frames
from kernel_agent.zmtp.connection import Connection
from kernel_agent.zmtp.protocol import SocketType

LAST_OUTPUT_TIMEOUT_SECONDS = 0.5
"""How long to wait for the end of iopub after the end of the process; children that it forked may
hold the connection open."""

_PORTS = {
    SHELL: "shell_port",
    CONTROL: "control_port",
    STDIN: "stdin_port",
    IOPUB: "iopub_port",
}

Handler = Callable[[List[Message]], None]


class KernelChannels:
    """Shell, control, stdin and iopub of one kernel process.

    Attributes:
        iopub_lost: done when the connection to iopub is first lost.
        is_iopub_lost: whether it is lost and not yet made again.
    """

    def __init__(self, info: ConnectionInfo, handler: Handler, backlog: Backlog) -> None:
        """Connect; `handler` is called with batches of messages, each of one channel."""
        self._handler = handler
        self._backlog = backlog
        self._loop = asyncio.get_running_loop()
        self._hmac = hmac.new(info.key.encode(), digestmod=info.digest)
        self._unsent: Dict[bytes, Deque[Sequence[bytes]]] = {}
        self._batching = ReadBatching()
        self._is_iopub_paused = False
        self._gathering: Optional[asyncio.TimerHandle] = None
        self.iopub_lost: "asyncio.Future[None]" = self._loop.create_future()
        self.is_iopub_lost = False
        self._is_closed = False
        # ipykernel sends input requests to the identity that the request on shell came from.
        identity = os.urandom(16).hex().encode()
        self._connections: Dict[bytes, Connection] = {}
        for channel, port_name in _PORTS.items():
            self._unsent[channel] = deque()
            self._connections[channel] = Connection(
                (info.ip, info.ports[port_name]),
                SocketType.SUB if channel == IOPUB else SocketType.DEALER,
                b"" if channel == IOPUB else identity,
                on_readable=partial(self._read, channel),
                on_writable=partial(self._on_writable, channel),
                on_lost=partial(self._on_lost, channel),
            )
        # Kernels bind their sockets one after the other; the rest follows when one is there.
        self._connections[IOPUB].open()

    def send(self, channel: bytes, parts: Sequence[bytes]) -> None:
        """Sign and send a message. Never blocks: what the kernel does not take waits, in order."""
        digest = self._hmac.copy()
        for part in parts[:4]:
            digest.update(part)
        frames = [DELIMITER, digest.hexdigest().encode(), *parts]
        self._backlog.add(sum(map(len, frames)))
        self._unsent[channel].append(frames)
        self._flush(channel)

    def pause_iopub(self) -> None:
        """Stop reading iopub until `resume_iopub`; messages wait in the network and the kernel."""
        self._is_iopub_paused = True
        self._connections[IOPUB].watch(is_watched=False)

    def resume_iopub(self) -> None:
        """Resume reading iopub."""
        self._is_iopub_paused = False
        if not self._is_closed:
            self._connections[IOPUB].watch(is_watched=True)

    async def drain_until_disconnected(self) -> None:
        """Handle the last messages of a process that has ended.

        All of them have arrived when the connection to iopub has ended.
        """
        await asyncio.wait({self.iopub_lost}, timeout=LAST_OUTPUT_TIMEOUT_SECONDS)
        for channel in _PORTS:
            while self._read(channel):
                pass

    def close(self) -> None:
        """Close the connections; drop unsent messages."""
        self._is_closed = True
        if self._gathering is not None:
            self._gathering.cancel()
        for connection in self._connections.values():
            connection.close()
        for unsent in self._unsent.values():
            self._backlog.remove(sum(sum(map(len, frames)) for frames in unsent))
            unsent.clear()

    def _on_writable(self, channel: bytes) -> None:
        if channel == IOPUB:
            self.is_iopub_lost = False
            for connection in self._connections.values():
                connection.open()
        self._flush(channel)

    def _flush(self, channel: bytes) -> None:
        connection = self._connections[channel]
        unsent = self._unsent[channel]
        while unsent and connection.can_send:
            frames = unsent.popleft()
            connection.send(frames)
            self._backlog.remove(sum(map(len, frames)))

    def _on_lost(self, channel: bytes) -> None:
        if channel == IOPUB:
            self.is_iopub_lost = True
            if not self.iopub_lost.done():
                self.iopub_lost.set_result(None)

    def _read(self, channel: bytes) -> bool:
        """Handle a batch, and see when iopub is read again; return whether there may be more."""
        messages, has_more = self._handle_batch(channel)
        if channel == IOPUB and not self._is_iopub_paused and self._gathering is None:
            self._await_iopub([] if has_more else messages)
        return has_more

    def _handle_batch(self, channel: bytes) -> Tuple[List[Message], bool]:
        """Handle a batch; return it, and whether there may be more."""
        if self._is_closed or (self._is_iopub_paused and channel == IOPUB):
            return [], False
        received, has_more = self._connections[channel].receive()
        messages: List[Message] = []
        for frames in received:
            parts = split_frames(frames)
            if parts is not None:
                messages.append(Message(channel, parts))
        if messages:
            if channel != IOPUB:
                self._end_run()
            self._handler(messages)
        return messages, has_more

    def _await_iopub(self, messages: List[Message]) -> None:
        """Wait for the next iopub message, or gather more if those read are part of a run."""
        delay = 0.0
        if messages:
            now, size = self._loop.time(), sum(message.size for message in messages)
            delay = self._batching.record_read(len(messages), size, now)
            if delay:
                self._gathering = self._loop.call_at(now + delay, self._gather)
        self._connections[IOPUB].watch(is_watched=not delay)

    def _gather(self) -> None:
        self._gathering = None
        self._read(IOPUB)

    def _end_run(self) -> None:
        """Read gathered messages now, since a reply follows, and what comes then at once."""
        self._batching.end_run()
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
            self._handle_batch(IOPUB)
            self._connections[IOPUB].watch(is_watched=not self._is_iopub_paused)
