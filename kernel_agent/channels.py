"""The agent's ZeroMQ side: one set of sockets for one kernel process, whatever the number of clients.

Sockets are drained with NOBLOCK from the event loop's reader callbacks. The descriptor of a ZeroMQ socket is edge
triggered, so every callback drains until nothing is left, and every send looks for events that it may have swallowed.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Sequence

import zmq

from kernel_agent.connection_file import LOOPBACK, ConnectionInfo
from kernel_agent.message import CONTROL, DELIMITER, IOPUB, SHELL, STDIN, Message, split_frames

BATCH_MESSAGES = 256
"""After so many messages other events get their turn."""
IOPUB_RECEIVE_LIMIT_MESSAGES = 65536
"""High-water mark of the iopub socket: the kernel's own, at most 1000, is what a stalled agent would overflow."""
LAST_OUTPUT_TIMEOUT = 0.5
"""Seconds to wait for the end of iopub after the process; children that it forked may hold the connection open."""
CONNECT_RETRY_MILLISECONDS = 20
"""The kernel binds while we are already connecting; a short interval makes it usable at once."""

_NOBLOCK = int(zmq.NOBLOCK)
_RCVMORE = int(zmq.RCVMORE)

Handler = Callable[[List[Message]], None]


class KernelChannels:
    """Shell, control, stdin and iopub of one kernel process."""

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", info: ConnectionInfo, handler: Handler
    ) -> None:
        """Connect; `handler` gets every batch of messages from the event loop."""
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._hmac = hmac.new(info.key.encode(), digestmod="sha256")
        identity = os.urandom(16).hex().encode()
        self._sockets: Dict[bytes, Any] = {}
        self._unsent: Dict[bytes, Deque[Sequence[bytes]]] = {}
        for channel, port in (
            (SHELL, "shell_port"),
            (CONTROL, "control_port"),
            (STDIN, "stdin_port"),
        ):
            sock = context.socket(zmq.DEALER)
            sock.setsockopt(zmq.IDENTITY, identity)
            self._connect(channel, sock, info.ports[port])
            self._unsent[channel] = deque()
        iopub = context.socket(zmq.SUB)
        iopub.setsockopt(zmq.RCVHWM, IOPUB_RECEIVE_LIMIT_MESSAGES)
        iopub.setsockopt(zmq.SUBSCRIBE, b"")
        self._connect(IOPUB, iopub, info.ports["iopub_port"])
        self._iopub_lost: "asyncio.Future[None]" = self._loop.create_future()
        self._monitor = iopub.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._loop.add_reader(self._monitor.fileno(), self._on_monitor)
        for channel, sock in self._sockets.items():
            self._loop.add_reader(sock.fileno(), self._drain, channel, sock)

    def send(self, channel: bytes, parts: Sequence[bytes]) -> None:
        """Sign and send a message. Never blocks: what the kernel does not take yet waits, in order."""
        digest = self._hmac.copy()
        for part in parts[:4]:
            digest.update(part)
        frames = [DELIMITER, digest.hexdigest().encode(), *parts]
        self._unsent[channel].append(frames)
        self._flush(channel)

    def drain(self) -> None:
        """Handle everything that has arrived."""
        for channel, sock in self._sockets.items():
            while self._drain(channel, sock):
                pass

    async def drain_until_disconnected(self) -> None:
        """Handle what a process that has ended sent last: all of it has arrived when ZeroMQ says that iopub lost its peer."""
        await asyncio.wait({self._iopub_lost}, timeout=LAST_OUTPUT_TIMEOUT)
        self.drain()

    def close(self) -> None:
        """Close the sockets; what was not sent is dropped."""
        self._loop.remove_reader(self._monitor.fileno())
        self._sockets[IOPUB].disable_monitor()
        self._monitor.close(linger=0)
        for sock in self._sockets.values():
            self._loop.remove_reader(sock.fileno())
            sock.close(linger=0)
        self._sockets = {}

    def _connect(self, channel: bytes, sock: Any, port: int) -> None:
        sock.setsockopt(zmq.RECONNECT_IVL, CONNECT_RETRY_MILLISECONDS)
        sock.setsockopt(zmq.LINGER, 0)
        sock.connect(f"tcp://{LOOPBACK}:{port}")
        self._sockets[channel] = sock

    def _flush(self, channel: bytes) -> None:
        sock = self._sockets.get(channel)
        unsent = self._unsent[channel]
        while sock is not None and unsent:
            try:
                sock.send_multipart(unsent[0], _NOBLOCK, copy=True)
            except zmq.Again:
                break
            unsent.popleft()
        self._loop.call_soon(self._drain, channel, sock)

    def _drain(self, channel: bytes, sock: Any) -> bool:
        """Handle a batch; return whether there may be more."""
        if self._sockets.get(channel) is not sock:
            return False
        messages: List[Message] = []
        append = messages.append
        recv = sock.recv
        getsockopt = sock.getsockopt
        has_more = True
        try:
            for _ in range(BATCH_MESSAGES):
                frames = [recv(_NOBLOCK)]
                while getsockopt(_RCVMORE):
                    frames.append(recv())
                parts = split_frames(frames)
                if parts is not None:
                    append(Message(channel, parts))
        except zmq.Again:
            has_more = False
        if messages:
            self._handler(messages)
        if has_more:
            self._loop.call_soon(self._drain, channel, sock)
        elif self._unsent.get(channel):
            self._loop.call_soon(self._retry, channel, sock)
        return has_more

    def _on_monitor(self) -> None:
        while self._monitor.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self._monitor.recv_multipart()
            if not self._iopub_lost.done():
                self._iopub_lost.set_result(None)

    def _retry(self, channel: bytes, sock: Any) -> None:
        if self._sockets.get(channel) is sock and sock.getsockopt(zmq.EVENTS) & zmq.POLLOUT:
            self._flush(channel)
