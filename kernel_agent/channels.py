"""The agent's ZeroMQ side: one set of sockets for a kernel process, whatever the number of clients.

Sockets are drained with NOBLOCK from the event loop's reader callbacks. The descriptor of a ZeroMQ
socket is edge triggered, so every callback drains until nothing is left or comes back by itself,
and every send is followed by a drain, since it may have swallowed an event.

Signatures: what the agent sends is signed, since kernels insist; what it receives is not verified.
It arrives over loopback connections that the agent opened itself, and the check would cost as much
as all else done with a message.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Sequence, Tuple

import zmq

from kernel_agent.backlog import Backlog
from kernel_agent.connection_file import ConnectionInfo
from kernel_agent.message import CONTROL, DELIMITER, IOPUB, SHELL, STDIN, Message, split_frames
from kernel_agent.pace import Pace

BATCH_MESSAGES = 256
BATCH_BYTES = 2 * 1024 * 1024
"""After so many messages or bytes of one socket, other events get their turn."""
IOPUB_QUEUE_MESSAGES = 20_000
"""High-water mark of the iopub socket: what ZeroMQ holds while the agent gets no processor time.

Beyond it the kernel's own queue of 1000 fills, and what does not fit there a kernel drops without a
word. So it is far more than a kernel sends in the seconds that an overloaded machine may take."""
REQUEST_QUEUE_MESSAGES = 16
"""High-water mark of the other sockets; what they do not take is counted in the backlog."""
LAST_OUTPUT_TIMEOUT = 0.5
"""Seconds to wait for the end of iopub after the process; children that it forked may hold the
connection open."""
CONNECT_RETRY_MILLISECONDS = 20
"""The kernel binds while we already connect; a short interval makes it usable at once."""

_NOBLOCK = int(zmq.NOBLOCK)
_RCVMORE = int(zmq.RCVMORE)
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
        iopub_lost: done when iopub loses its peer.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        info: ConnectionInfo,
        handler: Handler,
        backlog: Backlog,
    ) -> None:
        """Connect; `handler` gets every batch of messages, all of one channel."""
        self._handler = handler
        self._backlog = backlog
        self._loop = asyncio.get_running_loop()
        self._hmac = hmac.new(info.key.encode(), digestmod=info.digest)
        self._unsent: Dict[bytes, Deque[Sequence[bytes]]] = {}
        self._pace = Pace()
        self._is_iopub_paused = False
        self._is_iopub_watched = True
        self._gathering: Optional[asyncio.TimerHandle] = None
        self._sockets: "Dict[bytes, zmq.Socket[bytes]]" = {}
        # ipykernel sends input requests to the identity that the request on shell came from.
        identity = os.urandom(16).hex().encode()
        for channel, port_name in _PORTS.items():
            sock = context.socket(zmq.SUB if channel == IOPUB else zmq.DEALER)
            sock.setsockopt(zmq.RECONNECT_IVL, CONNECT_RETRY_MILLISECONDS)
            if channel == IOPUB:
                sock.setsockopt(zmq.RCVHWM, IOPUB_QUEUE_MESSAGES)
                sock.setsockopt(zmq.SUBSCRIBE, b"")
                self._monitor = sock.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            else:
                sock.setsockopt(zmq.IDENTITY, identity)
                sock.setsockopt(zmq.SNDHWM, REQUEST_QUEUE_MESSAGES)
                self._unsent[channel] = deque()
            sock.connect(f"tcp://{info.ip}:{info.ports[port_name]}")
            self._sockets[channel] = sock
            self._loop.add_reader(sock.fileno(), self._drain, channel)
        self.iopub_lost: "asyncio.Future[None]" = self._loop.create_future()
        self._loop.add_reader(self._monitor.fileno(), self._on_monitor)
        self._on_monitor()  # ZeroMQ signals a first event only to who has looked in vain

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
        """Leave iopub messages with ZeroMQ and the kernel until `resume_iopub`."""
        self._is_iopub_paused = True
        self._watch_iopub(is_watched=False)

    def resume_iopub(self) -> None:
        """Go on reading iopub."""
        if self._is_iopub_paused:
            self._is_iopub_paused = False
            self._loop.call_soon(self._drain, IOPUB)

    async def drain_until_disconnected(self) -> None:
        """Handle what a process that has ended sent last.

        All of it has arrived when ZeroMQ says that iopub lost its peer.
        """
        await asyncio.wait({self.iopub_lost}, timeout=LAST_OUTPUT_TIMEOUT)
        for channel in self._sockets:
            while self._drain(channel):
                pass

    def close(self) -> None:
        """Close the sockets; what was not sent is dropped."""
        if self._gathering is not None:
            self._gathering.cancel()
        self._loop.remove_reader(self._monitor.fileno())
        self._sockets[IOPUB].disable_monitor()
        self._monitor.close(linger=0)
        for sock in self._sockets.values():
            self._loop.remove_reader(sock.fileno())
            sock.close(linger=0)
        self._sockets = {}
        for unsent in self._unsent.values():
            self._backlog.remove(sum(sum(map(len, frames)) for frames in unsent))
            unsent.clear()

    def _flush(self, channel: bytes) -> None:
        sock = self._sockets[channel]
        unsent = self._unsent[channel]
        while unsent:
            try:
                sock.send_multipart(unsent[0], _NOBLOCK)
            except zmq.Again:
                break
            self._backlog.remove(sum(map(len, unsent.popleft())))
        self._loop.call_soon(self._drain, channel)

    def _drain(self, channel: bytes) -> bool:
        """Handle a batch; return whether there may be more."""
        sock = self._sockets.get(channel)
        if sock is None or (self._is_iopub_paused and channel == IOPUB):
            return False
        messages, has_more = _receive_batch(sock, channel)
        if messages:
            if channel != IOPUB:
                self._end_run()
            self._handler(messages)
        if has_more:
            self._loop.call_soon(self._drain, channel)
        elif channel == IOPUB:
            self._await_iopub(len(messages))
        elif self._unsent.get(channel) and self._can_send(channel):
            self._loop.call_soon(self._flush_if_open, channel)
        return has_more

    def _await_iopub(self, count: int) -> None:
        """Wait for the next iopub message, or for more of the run that the `count` read are of."""
        if self._is_iopub_paused or self._gathering is not None:
            return
        delay = self._pace.note(count, self._loop.time())
        if delay:
            self._gathering = self._loop.call_later(delay, self._gather)
        self._watch_iopub(is_watched=not delay)

    def _watch_iopub(self, *, is_watched: bool) -> None:
        """Be called of what arrives, or not: a descriptor stays readable until it is read."""
        sock = self._sockets.get(IOPUB)
        if sock is None or is_watched is self._is_iopub_watched:
            return
        self._is_iopub_watched = is_watched
        if is_watched:
            self._loop.add_reader(sock.fileno(), self._drain, IOPUB)
        else:
            self._loop.remove_reader(sock.fileno())

    def _gather(self) -> None:
        self._gathering = None
        self._drain(IOPUB)

    def _end_run(self) -> None:
        """Read what is gathered before a reply, and for the moment no longer gather."""
        self._pace.end_run()
        if self._gathering is not None:
            self._gathering.cancel()
            self._gather()

    def _can_send(self, channel: bytes) -> bool:
        sock = self._sockets.get(channel)
        return sock is not None and bool(int(sock.getsockopt(zmq.EVENTS)) & zmq.POLLOUT)

    def _flush_if_open(self, channel: bytes) -> None:
        if channel in self._sockets:
            self._flush(channel)

    def _on_monitor(self) -> None:
        while int(self._monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._monitor.recv_multipart()
            if not self.iopub_lost.done():
                self.iopub_lost.set_result(None)


def _receive_batch(sock: "zmq.Socket[bytes]", channel: bytes) -> Tuple[List[Message], bool]:
    """Read what is there, within limits; return also whether there may be more."""
    messages: List[Message] = []
    recv = sock.recv
    getsockopt = sock.getsockopt
    size = 0
    try:
        while len(messages) < BATCH_MESSAGES and size < BATCH_BYTES:
            frames = [recv(_NOBLOCK)]
            while getsockopt(_RCVMORE):
                frames.append(recv())
            parts = split_frames(frames)
            if parts is not None:
                message = Message(channel, parts)
                messages.append(message)
                size += message.size
    except zmq.Again:
        return messages, False
    return messages, True
