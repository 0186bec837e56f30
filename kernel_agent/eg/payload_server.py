"""Receives the one report of a launcher: the bytes of one connection."""

from __future__ import annotations

import asyncio
import socket
from typing import Optional

from kernel_agent.eg.payload import MAX_PAYLOAD_BYTES


async def receive_payload(listener: socket.socket) -> bytes:
    """Return the bytes of the first peer that sends any; at most slightly over the limit.

    Closes the listener and all connections at the end, also on cancellation.
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
    """One peer. Silent and empty connections do not block others."""

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
