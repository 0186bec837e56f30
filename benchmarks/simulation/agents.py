"""The agents of all kernels: the part of docs/agent-interface.md that a gateway uses at rest.

One server listens on the address of every kernel; the address tells whose agent is meant.
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from benchmarks.simulation.cluster import Cluster
from benchmarks.simulation.kernel import SimulatedKernel, stamp, stream_message
from jupyter_wire.frames import Opcode, server_frame
from jupyter_wire.messages import V1_SUBPROTOCOL

HEARTBEAT_SECONDS = 15.0
KEEP_ALIVE_SECONDS = 30.0
KEEP_ALIVE = b"idle"
"""Four bytes: a ping of eight would be taken for one that asks for an acknowledgement."""
ACKNOWLEDGEMENT_SECONDS = 0.01
ACTIVITY_SECONDS = 1.0
MAX_WAIT_SECONDS = 0.002
"""Messages that fall due within it leave together."""


@dataclass(eq=False)
class Link:
    """One WebSocket.

    Attributes:
        unacknowledged: whether a ping of the acknowledging kind is due or under way.
    """

    kernel: SimulatedKernel
    transport: asyncio.WriteTransport
    unacknowledged: bool = False
    sequence: int = 0

    def send(self, message: bytes) -> None:
        """Send a message, and a moment later a ping unless there is one already."""
        self.transport.write(server_frame(message, Opcode.BINARY))
        if not self.unacknowledged:
            self.unacknowledged = True
            asyncio.get_running_loop().call_later(ACKNOWLEDGEMENT_SECONDS, self._ping)

    def _ping(self) -> None:
        self.sequence += 1
        self.transport.write(server_frame(self.sequence.to_bytes(8, "big"), Opcode.PING))


class Agents:
    """Serves the interface, and has some of the kernels send messages."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._links: set[Link] = set()
        self._flow: asyncio.Task[None] | None = None

    def routes(self) -> list[web.RouteDef]:
        """Of an agent."""
        return [
            web.get("/v1/state", self._state),
            web.get("/v1/events", self._events),
            web.get("/v1/channels", self._channels),
            web.post("/v1/shutdown", self._no_content),
            web.put("/v1/culling", self._no_content),
        ]

    def begin_flow(self, kernels: int, rate: float) -> None:
        """Have the first kernels send `rate` messages a second each, if a client listens."""
        links = sorted(self._links, key=lambda link: link.kernel.number)[:kernels]
        self._flow = asyncio.create_task(self._send(links, rate))

    async def end_flow(self) -> None:
        """Stop that."""
        if self._flow is not None:
            self._flow.cancel()
            await asyncio.gather(self._flow, return_exceptions=True)
            self._flow = None

    async def _send(self, links: list[Link], rate: float) -> None:
        loop = asyncio.get_running_loop()
        message = stream_message()
        period = 1 / (rate * len(links))
        activity_every = max(1, round(rate * ACTIVITY_SECONDS))
        begun = loop.time()
        number = 0
        while True:
            due = int((loop.time() - begun) / period)
            for index in range(number, due):
                link = links[index % len(links)]
                link.kernel.is_busy = True
                if link.transport.is_closing():
                    continue
                link.send(stamp(message, time.monotonic_ns()))
                self._cluster.sent += 1
                if index // len(links) % activity_every == 0:
                    self._cluster.change(link.kernel)
            number = due
            await asyncio.sleep(MAX_WAIT_SECONDS)

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self._kernel(request).state())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        kernel = self._kernel(request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        change = self._cluster.watch(kernel)
        change.set()
        try:
            while self._cluster.has(kernel):
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await change.wait()
                except TimeoutError:
                    await response.write(b"\n")
                    continue
                change.clear()
                await response.write(json.dumps(kernel.state()).encode() + b"\n")
        except ConnectionError:
            pass  # the gateway has ended
        finally:
            self._cluster.unwatch(kernel, change)
        return response

    async def _channels(self, request: web.Request) -> web.WebSocketResponse:
        kernel = self._kernel(request)
        socket = web.WebSocketResponse(
            protocols=[V1_SUBPROTOCOL], autoping=False, compress=False, max_msg_size=0
        )
        await socket.prepare(request)
        assert request.transport is not None
        link = Link(kernel, request.transport)
        self._links.add(link)
        self._count_connections(kernel, 1)
        try:
            await self._receive(socket, link)
        finally:
            self._links.discard(link)
            self._count_connections(kernel, -1)
        return socket

    async def _receive(self, socket: web.WebSocketResponse, link: Link) -> None:
        """Take what a client sends, nothing but pongs, until it goes."""
        while True:
            try:
                message = await socket.receive(KEEP_ALIVE_SECONDS)
            except TimeoutError:
                with contextlib.suppress(ConnectionError):
                    await socket.ping(KEEP_ALIVE)
                continue
            if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED}:
                return
            if message.type is WSMsgType.PONG and len(message.data) == 8:
                link.unacknowledged = False

    def _count_connections(self, kernel: SimulatedKernel, change: int) -> None:
        kernel.connections += change
        self._cluster.change(kernel)

    async def _no_content(self, _request: web.Request) -> web.Response:
        return web.Response(status=204)

    def _kernel(self, request: web.Request) -> SimulatedKernel:
        assert request.transport is not None
        kernel = self._cluster.at(request.transport.get_extra_info("sockname")[0])
        if kernel is None:
            raise web.HTTPNotFound
        return kernel


async def report_ready(env: Iterable[str]) -> None:
    """Tell the gateway that a kernel is ready, as section 2 of the page says.

    Whether the gateway is the right one is not checked: there is nothing to protect.
    """
    values = dict(entry.partition("=")[::2] for entry in env)
    host, _, port = values["RESPONSE_ADDRESS"].rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    report = {
        "version": 1,
        "kernel_id": values["KERNEL_ID"],
        "token": values["EG_AGENT_TOKEN"],
        "status": "ready",
        "listen": "tcp:0.0.0.0:8898",
        "kernel_info": {},
    }
    writer.write(json.dumps(report).encode() + b"\n")
    await reader.readline()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
