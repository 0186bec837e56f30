"""`/api/kernels/<id>/channels`: the WebSocket between a client and a kernel's agent.

The gateway authorises, finds the agent and joins the two connections. No kernel message is looked
at, and nothing of the WebSocket but its handshake.
"""

import asyncio
import functools

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.web.handshake import Handshake, connect
from enterprise_gateway.web.splice import ReadBuffer, Splice
from enterprise_gateway.web.upgrade import check_upgrade, upgrade_request

CLOSE_SECONDS = 1.0
"""What a slow client has to take what is unsent when the gateway stops."""
LAST_MESSAGES_SECONDS = 1.0
"""How long after a kernel's end what its agent sent may still arrive."""


class Channels:
    """The WebSockets that pass through this gateway."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self._buffer = ReadBuffer()
        self._splices: set[Splice] = set()
        self._is_closed = False

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this module, relative to the base URL."""
        return [web.get("/api/kernels/{kernel_id}/channels", self._open, allow_head=False)]

    async def close(self) -> None:
        """Close every WebSocket, so that clients reconnect to the next gateway.

        No more are opened from then on.
        """
        self._is_closed = True
        splices = list(self._splices)
        for splice in splices:
            splice.close()
        if splices:
            await asyncio.wait([splice.closed for splice in splices], timeout=CLOSE_SECONDS)
        for splice in splices:
            splice.abort()
        await asyncio.gather(*(splice.closed for splice in splices))

    async def _open(self, request: web.Request) -> web.StreamResponse:
        """Join the client with the kernel's agent; returns when they have parted."""
        check_upgrade(request.headers)
        self._check_open()
        agent = await self._kernels.agent(request.match_info["kernel_id"])
        handshake = await connect(agent.endpoint)
        try:
            session_id = request.query.get("session_id")
            handshake.transport.write(
                upgrade_request(request.headers.items(), session_id, agent.token)
            )
            await handshake.answer()
            self._check_open()
            splice = self._join(request, handshake)
        except BaseException:
            handshake.transport.abort()
            raise
        self._splices.add(splice)
        end = functools.partial(_close_later, splice)
        agent.gone.add_done_callback(end)
        try:
            await asyncio.shield(splice.closed)
        finally:
            agent.gone.remove_done_callback(end)
            splice.abort()
            self._splices.discard(splice)
        return _Spliced()

    def _check_open(self) -> None:
        if self._is_closed:
            raise UnavailableError("This gateway is being stopped", retry_after=1.0)

    def _join(self, request: web.Request, handshake: Handshake) -> Splice:
        """Take the client's connection away from aiohttp and join it with the agent's.

        There is no await in here: nothing can arrive in between.
        """
        client, protocol = request.transport, request.protocol
        if client is None or client.is_closing() or request.task.done():
            raise ConnectionResetError("the client is gone")
        if handshake.transport.is_closing():
            raise UnavailableError("The kernel's agent closed the connection", retry_after=1.0)
        early = _EarlyBytes()
        # It is given what the client sent right behind its request.
        protocol.set_parser(early)  # type: ignore[arg-type] # nothing but feed_data is used
        protocol.keep_alive(val=False)
        splice = Splice(client, handshake.transport, self._buffer)
        client.write(bytes(handshake.received))
        if early.received:
            handshake.transport.write(bytes(early.received))
        # aiohttp does not hear of the end of a connection that it lent out. It has to once its own
        # task for this connection is over, or it would count it for ever.
        request.task.add_done_callback(functools.partial(_tell_end, protocol))
        return splice


def _close_later(splice: Splice, gone: asyncio.Future[None]) -> None:
    """Close the connection to a kernel that has ended, so that its client comes back and is told.

    A machine that lost its power closes no connection.
    """
    gone.get_loop().call_later(LAST_MESSAGES_SECONDS, splice.close)


def _tell_end(protocol: web.RequestHandler, task: asyncio.Task[None]) -> None:
    del task
    protocol.connection_lost(None)


class _EarlyBytes:
    """Stands in for aiohttp's WebSocket parser, to be given the bytes that it would have parsed."""

    def __init__(self) -> None:
        self.received = bytearray()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Collect bytes."""
        self.received += data
        return False, b""

    def feed_eof(self) -> None:
        """Do nothing: the end of the connection is the splice's business."""


class _Spliced(web.StreamResponse):
    """The response of a request whose connection was lent out: aiohttp has nothing left to send."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send no head: the agent's has been passed on."""
        del request
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send nothing."""
