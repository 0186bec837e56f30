"""Takes the one report of a launcher: bytes up to the end of a connection."""

from __future__ import annotations

import asyncio
import socket
from typing import Optional

from kernel_agent.payload import MAX_PAYLOAD_BYTES


async def receive_payload(listener: socket.socket) -> bytes:
    """Return what the first peer sends that sends anything; no more than is needed to refuse it.

    The listener is closed in the end, also on cancellation, and all connections with it.
    """
    loop = asyncio.get_running_loop()
    received: "asyncio.Future[bytes]" = loop.create_future()
    server = await loop.create_server(lambda: _Connection(received), sock=listener)
    try:
        return await received
    finally:
        received.cancel()
        server.close()


class _Connection(asyncio.Protocol):
    """One peer. A silent one keeps nobody waiting, an empty one was somebody's probe."""

    def __init__(self, received: "asyncio.Future[bytes]") -> None:
        self._received = received
        self._data = bytearray()
        self._transport: Optional[asyncio.BaseTransport] = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._received.add_done_callback(self._close)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > MAX_PAYLOAD_BYTES:
            self._deliver()

    def connection_lost(self, _exc: Optional[Exception]) -> None:
        self._received.remove_done_callback(self._close)
        if self._data:
            self._deliver()

    def _deliver(self) -> None:
        if not self._received.done():
            self._received.set_result(bytes(self._data))

    def _close(self, _received: "asyncio.Future[bytes]") -> None:
        if self._transport is not None:
            self._transport.close()
