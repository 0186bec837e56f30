"""`/api/kernels/<id>/channels`: the WebSocket between a client and a kernel's agent.

The gateway finds the agent and splices the two connections. It reads the WebSocket handshake, and
no kernel messages, unless the agent is gone: then it answers in its place. A load balancer that it
trusts connects the two by itself.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from enterprise_gateway.errors import GatewayError, UnavailableError
from enterprise_gateway.services.keepalive import LASTING, keep_transport_alive
from enterprise_gateway.services.kernels.access.rights import identify_client
from enterprise_gateway.services.kernels.agents.agent import Agent
from enterprise_gateway.services.kernels.kernels import DeadKernel, Kernels
from enterprise_gateway.services.kernels.ownership import ACCESS
from enterprise_gateway.services.request_scope import note_detail
from enterprise_gateway.services.users import USER
from enterprise_gateway.web.audit import note_connection
from enterprise_gateway.web.channels.dead_clients import (
    ConnectedClient,
    DeadKernelClient,
    SplicedClient,
)
from enterprise_gateway.web.channels.frames import MAX_MESSAGE_BYTES
from enterprise_gateway.web.channels.handover import describe_agent, is_balancer
from enterprise_gateway.web.channels.handshake import Handshake, connect
from enterprise_gateway.web.channels.splice import ReadBuffer, Splice
from enterprise_gateway.web.channels.upgrade import agent_target, check_upgrade, upgrade_request
from enterprise_gateway.web.dead_kernels import (
    DEATH_SECONDS,
    V1_SUBPROTOCOL,
    DeadKernelAnswers,
    explain_death,
)

CLOSE_SECONDS = 1.0
"""How long a slow client may take to receive unsent data when the gateway stops."""
LAST_MESSAGES_SECONDS = 1.0
"""How long after a kernel's end its agent's last messages may still arrive."""
HEARTBEAT_SECONDS = 30.0
RECONNECT_SECONDS = 5.0
"""How long the client of a dead kernel has to connect anew by itself when that is launched again.

JupyterLab does after its "Restart Kernel…". If the gateway were first, the Jupyter server between
them would connect anew as well, a moment later, and drop what its user runs meanwhile.
"""


class Channels:
    """The WebSockets that pass through this gateway."""

    def __init__(self, kernels: Kernels, balancer_secret: str = "") -> None:
        """Open nothing yet.

        Args:
            kernels: the kernels.
            balancer_secret: what a load balancer knows that may connect clients with agents;
                "": none may.
        """
        self._kernels = kernels
        self._balancer_secret = balancer_secret
        self._buffer = ReadBuffer()
        self._splices: set[Splice] = set()
        self._clients_of_dead: set[DeadKernelClient] = set()
        self._is_closed = False

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this module, relative to the base URL."""
        return [web.get("/api/kernels/{kernel_id}/channels", self._open, allow_head=False)]

    async def close(self) -> None:
        """Close every WebSocket, so that clients reconnect to the next gateway.

        Later upgrades are refused.
        """
        self._is_closed = True
        splices = list(self._splices)
        for splice in splices:
            splice.close()
        for client in list(self._clients_of_dead):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.close(), CLOSE_SECONDS)
        if splices:
            await asyncio.wait([splice.closed for splice in splices], timeout=CLOSE_SECONDS)
        for splice in splices:
            splice.abort()
        await asyncio.gather(*(splice.closed for splice in splices))

    async def _open(self, request: web.Request) -> web.StreamResponse:
        """Connect the client with the kernel's agent; return when that connection has ended."""
        check_upgrade(request.headers)
        client = identify_client(request[USER], request[ACCESS], time.time())
        target = agent_target(request.query, client)
        if is_balancer(request.headers, self._balancer_secret):
            return await self._hand_over(request, target)
        self._check_open()
        kernel_id = request.match_info["kernel_id"]
        dead = await self._kernels.find_dead(kernel_id)
        if dead is not None:
            return await self._serve_dead(request, dead)
        agent = await self._kernels.agent(kernel_id)
        handshake = await connect(agent.endpoint)
        try:
            handshake.transport.write(upgrade_request(request.headers.items(), target, agent.token))
            await handshake.answer()
            self._check_open()
            splice = self._join(request, handshake, agent)
        except BaseException:
            handshake.transport.abort()
            raise
        self._splices.add(splice)
        note_connection(request)
        end = functools.partial(_close_later, splice)
        agent.gone.add_done_callback(end)
        try:
            await asyncio.wait(
                {splice.closed, splice.agent_lost}, return_when=asyncio.FIRST_COMPLETED
            )
            if not splice.closed.done():
                await self._answer_for_agent(splice, kernel_id, handshake)
                await asyncio.shield(splice.closed)
        finally:
            agent.gone.remove_done_callback(end)
            splice.abort()
            self._splices.discard(splice)
        return _Spliced()

    async def _hand_over(self, request: web.Request, target: str) -> web.StreamResponse:
        """Tell the load balancer where the agent is; nothing depends on this gateway then.

        Of a dead kernel's agent it is told nothing: a gateway answers in its place.
        """
        kernel_id = request.match_info["kernel_id"]
        note_detail("handed_over", False)  # noqa: FBT003 - any plain value
        if await self._kernels.find_dead(kernel_id) is not None:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        agent = await self._kernels.agent(kernel_id)
        agent.mark_changed()
        headers = describe_agent(agent.endpoint, target, agent.token)
        note_detail("handed_over", bool(headers))
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)

    async def _answer_for_agent(self, splice: Splice, kernel_id: str, handshake: Handshake) -> None:
        """Answer, if the kernel has died, for an agent whose connection broke.

        nbclient and papermill do not come back, so this is on the connection that they have. Other
        clients do if the kernel lives.
        """
        sent = [frame.data for frame in splice.client_frames.take_unacknowledged()]
        dead = None
        with contextlib.suppress(GatewayError):
            dead = await self._kernels.find_dead(kernel_id, DEATH_SECONDS)
        if dead is not None:
            is_v1 = V1_SUBPROTOCOL.encode() in handshake.accepted
            await self._answer(SplicedClient(splice), dead, sent, is_v1=is_v1)
        splice.close()

    async def _serve_dead(self, request: web.Request, dead: DeadKernel) -> web.StreamResponse:
        """Answer a client that has connected in place of the agent."""
        websocket = web.WebSocketResponse(
            protocols=(V1_SUBPROTOCOL,),
            heartbeat=HEARTBEAT_SECONDS,
            max_msg_size=MAX_MESSAGE_BYTES,
            compress=False,
        )
        await websocket.prepare(request)
        is_v1 = websocket.ws_protocol == V1_SUBPROTOCOL
        await self._answer(ConnectedClient(websocket), dead, is_v1=is_v1)
        return websocket

    async def _answer(
        self,
        client: DeadKernelClient,
        dead: DeadKernel,
        sent: Sequence[str | bytes] = (),
        *,
        is_v1: bool,
    ) -> None:
        """Answer a client until it leaves, or the kernel is launched again or removed.

        Args:
            client: the client.
            dead: its kernel.
            sent: messages of the client's that the agent may not have told of.
            is_v1: whether it speaks `V1_SUBPROTOCOL`.
        """
        explanation = explain_death(dead.reason)
        answers = DeadKernelAnswers(explanation, is_v1=is_v1, kernel_info=dead.kernel_info)
        self._clients_of_dead.add(client)
        closing = asyncio.create_task(_close_when(dead.is_forgotten, client))
        try:
            for data in answers.answer_left(dead.requests, sent):
                await client.send(data)
            async for message in client.messages():
                for data in answers.answer(message):
                    await client.send(data)
                if dead.is_forgotten.is_set():
                    await client.close()
                    break
        except ConnectionError:
            pass  # the client is gone
        finally:
            self._clients_of_dead.discard(client)
            closing.cancel()

    def _check_open(self) -> None:
        if self._is_closed:
            raise UnavailableError("This gateway is shutting down", retry_after=1.0)

    def _join(self, request: web.Request, handshake: Handshake, agent: Agent) -> Splice:
        """Take the client's connection away from aiohttp and splice it with the agent's.

        Nothing is awaited, so nothing can arrive in between.
        """
        client, protocol = request.transport, request.protocol
        if client is None or client.is_closing() or request.task.done():
            raise ConnectionResetError("the client is gone")
        if handshake.transport.is_closing():
            raise UnavailableError("The kernel's agent closed the connection", retry_after=1.0)
        early = _EarlyBytes()
        # It receives the bytes that the client sent right behind its request.
        protocol.set_parser(early)  # type: ignore[arg-type] # nothing but feed_data is used
        protocol.keep_alive(val=False)
        keep_transport_alive(client, LASTING)
        agent.mark_changed()
        splice = Splice(
            client,
            handshake.transport,
            self._buffer,
            agent.mark_changed,
            (bytes(early.received), handshake.early),
        )
        client.write(handshake.accepted)
        if early.received:
            handshake.transport.write(bytes(early.received))
        # aiohttp does not see the end of a connection that was taken over, and would count it for
        # ever: report it once aiohttp's own task for this connection is over.
        request.task.add_done_callback(functools.partial(_report_end, protocol))
        return splice


def _close_later(splice: Splice, gone: asyncio.Future[None]) -> None:
    """Give up the connection to a kernel that has ended, so that its client asks for it again.

    A machine that lost its power closes no connection by itself.
    """
    gone.get_loop().call_later(LAST_MESSAGES_SECONDS, splice.give_up_agent)


async def _close_when(event: asyncio.Event, client: DeadKernelClient) -> None:
    """Task root: close the connection some time after an event, so that the client asks again."""
    await event.wait()
    await asyncio.sleep(RECONNECT_SECONDS)
    await client.close()


def _report_end(protocol: web.RequestHandler, task: asyncio.Task[None]) -> None:
    del task
    protocol.connection_lost(None)


class _EarlyBytes:
    """Collects, in place of aiohttp's WebSocket parser, the bytes that it would have parsed."""

    def __init__(self) -> None:
        self.received = bytearray()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Collect bytes."""
        self.received += data
        return False, b""

    def feed_eof(self) -> None:
        """Do nothing: the splice sees the end of the connection."""


class _Spliced(web.StreamResponse):
    """The response of a request whose connection was taken over: aiohttp sends nothing."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send no head: the agent's has been passed on."""
        del request
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send nothing."""
