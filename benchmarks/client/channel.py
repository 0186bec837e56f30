"""One client of one kernel, through a server or directly.

The steps are the same either way, so that the difference is the path.
"""

import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TypeAlias
from uuid import uuid4

import zmq

from benchmarks.client.protocol import (
    IDLE,
    Request,
    encode_legacy,
    encode_v1,
    encode_zmq,
    execute_request,
    make_request,
)
from jupyter_wire.frames import Opcode
from jupyter_wire.messages import V1_SUBPROTOCOL, Codec
from jupyter_wire.websocket import Count, WebSocket

QUIET_SECONDS = 0.3
SUBSCRIPTION_SECONDS = 0.05
RECONNECT_MS = 10
"""ZMQ's own 100 ms would be seen in the start of a kernel."""
ZmqSocket: TypeAlias = "zmq.Socket[bytes]"
Connection: TypeAlias = dict[str, str | int]
"""What a connection file holds."""


class Channel(ABC):
    """Shell and iopub of a kernel."""

    def __init__(self, session: str = "") -> None:
        """Name its session, or have a new one."""
        self.session = session or uuid4().hex

    @abstractmethod
    def send(self, request: Request) -> None:
        """Send on shell."""

    @abstractmethod
    def receive(self, deadline: float) -> bytes:
        """Return the next message, in one piece; TimeoutError past the deadline."""

    @abstractmethod
    def count_until(self, marker: bytes, deadline: float) -> Count:
        """Count messages until one holds `marker`."""

    @abstractmethod
    def close(self) -> None:
        """Cut the connection; the kernel stays."""

    def run(self, request: Request, timeout: float = 60.0) -> list[bytes]:
        """Send a request and wait for both its reply and the idle status that ends it.

        Returns:
            All that was received meanwhile.
        """
        deadline = time.monotonic() + timeout
        self.send(request)
        replied = idle = False
        messages = []
        while not (replied and idle):
            message = self.receive(deadline)
            messages.append(message)
            if request.mark in message:
                replied = replied or request.reply in message
                idle = idle or IDLE in message
        return messages

    def execute(self, code: str, timeout: float = 60.0) -> list[bytes]:
        """Run `code` to its end."""
        return self.run(execute_request(code, self.session), timeout)

    def settle(self) -> None:
        """Make sure that the kernel answers, then take what comes until nothing comes any more."""
        self.run(make_request("kernel_info_request", {}, self.session))
        with suppress(TimeoutError):
            while True:
                self.receive(time.monotonic() + QUIET_SECONDS)


class WebSocketChannel(Channel):
    """Through a server."""

    def __init__(
        self, host: str, port: int, token: str, kernel_id: str, codec: Codec, session: str
    ) -> None:
        super().__init__(session)
        self._encode = encode_v1 if codec is Codec.V1 else encode_legacy
        self._opcode = Opcode.BINARY if codec is Codec.V1 else Opcode.TEXT
        headers = {"Authorization": f"token {token}"}
        if codec is Codec.V1:
            headers["Sec-WebSocket-Protocol"] = V1_SUBPROTOCOL
        target = f"/api/kernels/{kernel_id}/channels?session_id={self.session}"
        self._websocket = WebSocket(host, port, target, headers, timeout=60.0)

    def send(self, request: Request) -> None:
        """Send on shell."""
        self._websocket.send(self._encode(request), self._opcode)

    def receive(self, deadline: float) -> bytes:
        """Return the next message, encoded as it came."""
        return self._websocket.receive(deadline)[1]

    def count_until(self, marker: bytes, deadline: float) -> Count:
        """Count messages until one holds `marker`."""
        return self._websocket.count_until(marker, deadline)

    def close(self) -> None:
        """Cut the connection."""
        self._websocket.abort()
        self._websocket.close()


class ZmqChannel(Channel):
    """Straight to the kernel's sockets: the floor."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._key = str(connection["key"]).encode()
        self._context: zmq.Context[ZmqSocket] = zmq.Context()
        address = f"{connection['transport']}://{connection['ip']}"
        self._context.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._shell = self._context.socket(zmq.DEALER)
        self._shell.connect(f"{address}:{connection['shell_port']}")
        self._iopub = self._context.socket(zmq.SUB)
        self._iopub.subscribe(b"")
        self._iopub.connect(f"{address}:{connection['iopub_port']}")
        self._poller = zmq.Poller()
        self._poller.register(self._shell, zmq.POLLIN)
        self._poller.register(self._iopub, zmq.POLLIN)

    def wait_until_live(self, timeout: float = 60.0) -> None:
        """Wait until both channels answer.

        A subscription takes effect at an unknown time after connect.
        """
        deadline = time.monotonic() + timeout
        heard_iopub = False
        while not heard_iopub:
            request = make_request("kernel_info_request", {}, self.session)
            self.send(request)
            while request.reply not in self.receive(deadline):
                heard_iopub = True
            with suppress(TimeoutError):
                while not heard_iopub:
                    heard_iopub = request.reply not in self.receive(
                        time.monotonic() + SUBSCRIPTION_SECONDS
                    )

    def send(self, request: Request) -> None:
        """Send on shell."""
        self._shell.send_multipart(encode_zmq(request, self._key))

    def receive(self, deadline: float) -> bytes:
        """Return the next message of either socket, its frames joined."""
        ready = self._poller.poll(max(0, int((deadline - time.monotonic()) * 1000)))
        if not ready:
            raise TimeoutError("the kernel does not answer")
        return b"".join(ready[0][0].recv_multipart())

    def count_until(self, marker: bytes, deadline: float) -> Count:
        """Count iopub messages until one holds `marker`.

        They are read the way a relay must: all frames of each.
        """
        receive = self._iopub.recv_multipart
        self._iopub.rcvtimeo = int((deadline - time.monotonic()) * 1000)
        messages = payload_bytes = 0
        frames = receive()
        started = time.perf_counter()
        while marker not in frames[-1]:
            messages += 1
            payload_bytes += len(frames[-1])
            frames = receive()
        return Count(messages, payload_bytes, time.perf_counter() - started)

    def close(self) -> None:
        """Cut the connection."""
        self._context.destroy(linger=0)
