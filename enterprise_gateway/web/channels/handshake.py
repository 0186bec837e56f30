"""The connection to an agent, until the agent has answered the upgrade request."""

import asyncio
import errno

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.keepalive import LASTING, keep_transport_alive
from enterprise_gateway.services.kernels.agents import connection as connections
from enterprise_gateway.services.processproxies.contract import AgentEndpoint
from enterprise_gateway.web.channels.upgrade import (
    HEAD_END,
    MAX_HEAD_BYTES,
    SWITCHING_PROTOCOLS,
    answer_status,
    clean_head,
    refusal,
)

CONNECT_SECONDS = 5.0
NETWORK_SECONDS = 2.0
"""How long a network may take to lead to a new kernel: nodes of a Swarm hear of it one by one."""
PAUSE_SECONDS = 0.1
ANSWER_SECONDS = 15.0


async def connect(endpoint: AgentEndpoint) -> "Handshake":
    """Connect to an agent.

    Raises:
        UnavailableError: the agent cannot be reached.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            handshake = await _connect_patiently(endpoint)
    except (OSError, TimeoutError) as exc:
        raise UnavailableError("The kernel's agent cannot be reached", retry_after=1.0) from exc
    keep_transport_alive(handshake.transport, LASTING)
    return handshake


async def _connect_patiently(endpoint: AgentEndpoint) -> "Handshake":
    loop = asyncio.get_running_loop()
    end = loop.time() + NETWORK_SECONDS
    while True:
        try:
            _, handshake = await connections.connect(endpoint, Handshake)
        except OSError as exc:
            if exc.errno != errno.EHOSTUNREACH or loop.time() >= end:
                raise
        else:
            return handshake
        await asyncio.sleep(PAUSE_SECONDS)


class Handshake(asyncio.Protocol):
    """Collects an agent's answer; reading stops when it is complete.

    Attributes:
        transport: the connection.
        received: the agent's bytes: the head of its answer, and anything right behind it.
        accepted: the bytes for the client, once the agent has accepted the upgrade.
        early: those of them that are behind the head.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()
        self.accepted = b""
        self.early = b""
        self._changed = asyncio.Event()
        self._is_over = False

    async def answer(self) -> None:
        """Wait until the agent accepts the upgrade.

        Raises:
            InvalidRequestError: the client's handshake is malformed.
            UnavailableError: the agent refused, or did not answer.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._collect(HEAD_END)
                status = answer_status(bytes(self.received))
                body = self.received.index(HEAD_END) + len(HEAD_END)
                if status == SWITCHING_PROTOCOLS:
                    self.early = bytes(self.received[body:])
                    self.accepted = clean_head(bytes(self.received[:body])) + self.early
                    return
                await self._collect(b"}", body)  # refusals are JSON objects
        except (TimeoutError, ConnectionError) as exc:
            raise UnavailableError("The kernel's agent did not answer") from exc
        raise refusal(status, bytes(self.received[body:]))

    async def _collect(self, mark: bytes, start: int = 0) -> None:
        """Read until a mark has arrived."""
        while self.received.find(mark, start) < 0:
            if self._is_over or len(self.received) > MAX_HEAD_BYTES:
                raise ConnectionResetError("no complete answer")
            self._changed.clear()
            self.transport.resume_reading()
            await self._changed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream transport is needed")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect bytes, and pause reading until they have been examined."""
        self.received += data
        self.transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> bool:
        """Record that no more bytes will come."""
        self._is_over = True
        self._changed.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that no more bytes will come."""
        del exc
        self._is_over = True
        self._changed.set()
