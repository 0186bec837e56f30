"""Many clients in one loop: each message counts once, each ping is answered."""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.client.crowd import Crowd, Target
from benchmarks.simulation.kernel import stamp, stream_message

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
DEADLINE = 60.0
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(behave: Behaviour) -> AsyncIterator[Target]:
    """A server that behaves so once it has read the head of a request."""
    ended: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ended.append(task)
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            await behave(reader, writer)
            await reader.read()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1], "/", {})
    finally:
        server.close()
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*ended)


async def test_crowd_notes_delays_and_answers_pings() -> None:
    """What comes right behind the handshake counts too."""
    pongs: list[bytes] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = stamp(stream_message(), time.monotonic_ns())
        frame = struct.pack("!BBH", 0x82, 126, len(message)) + message
        writer.write(ACCEPTED + frame + b"\x89\x04ping")
        pongs.append(await reader.readexactly(10))
        writer.write(frame)

    async with serving(behave) as target:
        crowd = Crowd()
        try:
            await crowd.connect([target] * 3)
            await crowd.wait_for(6, DEADLINE)
            assert len(crowd.delays) == 6
            assert all(0 <= delay < DEADLINE for delay in crowd.delays)
            assert pongs == [b"\x8a\x84\0\0\0\0ping"] * 3
        finally:
            crowd.close()


async def test_crowd_says_that_it_was_refused() -> None:
    """A figure must not be taken with half of the clients."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n")

    async with serving(behave) as target:
        crowd = Crowd()
        try:
            with pytest.raises(ConnectionError, match="404"):
                await crowd.connect([target])
        finally:
            crowd.close()
