"""The client of a dead kernel: one that has connected since, or whose connection was spliced."""

from collections.abc import AsyncIterator
from typing import Protocol

from aiohttp import web

from enterprise_gateway.web.channels.frames import (
    BINARY,
    CLOSE,
    MAX_MESSAGE_BYTES,
    PING,
    TEXT,
    close_frame,
    frame,
    pong_frame,
)
from enterprise_gateway.web.channels.splice import Splice

GOING_AWAY = 1001
"""Close code, RFC 6455 section 7.4.1."""


class DeadKernelClient(Protocol):
    """A client's WebSocket."""

    async def send(self, data: str | bytes) -> None:
        """Send a message.

        Raises:
            ConnectionError: the client is gone.
        """

    def messages(self) -> AsyncIterator[str | bytes]:
        """Yield the client's messages, until it leaves or is closed."""

    async def close(self) -> None:
        """Close the connection, so that the client asks again."""


class ConnectedClient:
    """One that has connected to the gateway."""

    def __init__(self, websocket: web.WebSocketResponse) -> None:
        self._websocket = websocket

    async def send(self, data: str | bytes) -> None:
        """Send a message."""
        if isinstance(data, str):
            await self._websocket.send_str(data)
        else:
            await self._websocket.send_bytes(data)

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Yield the client's messages."""
        async for message in self._websocket:
            yield message.data

    async def close(self) -> None:
        """Close the connection."""
        await self._websocket.close(code=GOING_AWAY)


class SplicedClient:
    """One whose connection to an agent was spliced, and which is left of that."""

    def __init__(self, splice: Splice) -> None:
        self._splice = splice
        self._frames = splice.client_frames
        self._frames.kept_bytes = MAX_MESSAGE_BYTES

    async def send(self, data: str | bytes) -> None:
        """Send a message."""
        self._splice.write_to_client(frame(data))

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Yield the client's messages."""
        spoke, closed = self._splice.client_spoke, self._splice.closed
        closed.add_done_callback(lambda _: spoke.set())
        while not closed.done():
            await spoke.wait()
            spoke.clear()
            for received in self._frames.take():
                if received.opcode in (TEXT, BINARY):
                    yield received.data
                elif received.opcode == PING:
                    self._splice.write_to_client(pong_frame(received.payload))
                elif received.opcode == CLOSE:
                    await self.close()
                    return

    async def close(self) -> None:
        """Close the connection."""
        self._splice.write_to_client(close_frame(GOING_AWAY))
        self._splice.close()
