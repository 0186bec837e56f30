"""Connections to real sockets of libzmq."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import zmq
import zmq.asyncio
from harness.gateways.gateway import find_free_port

from kernel_agent.zmtp.connection import Connection
from kernel_agent.zmtp.protocol import SocketType

DEADLINE = 60.0
LOOPBACK = "127.0.0.1"
LARGE = bytes(5_000_000)


class Client:
    """A connection and what it received."""

    def __init__(self, port: int, socket_type: SocketType, identity: bytes = b"") -> None:
        self.received: list[list[bytes]] = []
        self.losses = 0
        self._changed = asyncio.Event()
        self.connection = Connection(
            (LOOPBACK, port),
            socket_type,
            identity,
            on_readable=self._read,
            on_writable=self._changed.set,
            on_lost=self._lose,
        )
        self.connection.open()

    async def until(self, is_true: Callable[[], object]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(DEADLINE):
            while not is_true():
                self._changed.clear()
                await self._changed.wait()

    def _read(self) -> None:
        self.received += self.connection.receive()[0]
        self._changed.set()

    def _lose(self) -> None:
        self.losses += 1
        self._changed.set()


@pytest.fixture
async def context() -> AsyncIterator[zmq.asyncio.Context]:
    """Of the kernel's side."""
    with zmq.asyncio.Context() as context:
        context.linger = 0
        yield context


async def test_router_answers_a_dealer(context: zmq.asyncio.Context) -> None:
    """By its identity; messages of every size arrive whole, both ways."""
    router = context.socket(zmq.ROUTER)
    client = Client(router.bind_to_random_port(f"tcp://{LOOPBACK}"), SocketType.DEALER, b"agent")
    try:
        await client.until(lambda: client.connection.can_send)
        client.connection.send([b"small", b"", LARGE])
        assert await router.recv_multipart() == [b"agent", b"small", b"", LARGE]
        await client.until(lambda: client.connection.can_send)
        await router.send_multipart([b"agent", LARGE, b"x" * 255, b"x" * 256])
        await client.until(lambda: client.received)
        assert client.received == [[LARGE, b"x" * 255, b"x" * 256]]
    finally:
        client.connection.close()
        router.close()


async def test_connection_waits_for_the_kernel_and_is_made_again(
    context: zmq.asyncio.Context,
) -> None:
    """A kernel binds after the agent connects; and its socket may close and open."""
    port = find_free_port()
    client = Client(port, SocketType.SUB)
    try:
        for number in range(2):
            publisher = context.socket(zmq.XPUB)
            await _bind(publisher, port)
            assert await publisher.recv() == b"\x01"
            await publisher.send_multipart([b"topic", b"%d" % number])
            await client.until(lambda count=number + 1: len(client.received) == count)
            losses = client.losses
            publisher.close()
            await client.until(lambda before=losses: client.losses > before)
        assert client.received == [[b"topic", b"0"], [b"topic", b"1"]]
    finally:
        client.connection.close()


async def test_unread_messages_wait(context: zmq.asyncio.Context) -> None:
    """While the agent does not read, the network and the kernel keep them."""
    publisher = context.socket(zmq.XPUB)
    client = Client(publisher.bind_to_random_port(f"tcp://{LOOPBACK}"), SocketType.SUB)
    try:
        assert await publisher.recv() == b"\x01"
        client.connection.watch(is_watched=False)
        for number in range(500):
            await publisher.send_multipart([b"%d" % number, bytes(5000)])
        assert client.received == []
        client.connection.watch(is_watched=True)
        await client.until(lambda: len(client.received) == 500)
        assert [int(frames[0]) for frames in client.received] == list(range(500))
    finally:
        client.connection.close()
        publisher.close()


async def test_request_that_the_kernel_does_not_take_is_kept() -> None:
    """Whole: nothing more may be sent until the kernel reads on."""
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda reader, writer: accepted.set_result((reader, writer)), LOOPBACK, 0, limit=1024
    )
    client = Client(server.sockets[0].getsockname()[1], SocketType.DEALER)
    reader, writer = await accepted
    try:
        writer.write(b"\xff" + bytes(8) + b"\x7f\x01\x06\x00\x00")
        await client.until(lambda: client.connection.can_send)
        large = bytes(64 * 1024 * 1024)
        client.connection.send([large])
        assert not client.connection.can_send
        assert await reader.readexactly(11 + 3) == b"\xff" + bytes(8) + b"\x7f\x03\x05\x00\x00"
        assert await reader.readexactly(9) == b"\x02" + len(large).to_bytes(8, "big")
        assert await reader.readexactly(len(large)) == large
        await client.until(lambda: client.connection.can_send)
    finally:
        client.connection.close()
        writer.close()
        server.close()


async def _bind(publisher: zmq.asyncio.Socket, port: int) -> None:
    """Bind as soon as libzmq has released the port: it closes sockets in a thread of its own."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                publisher.bind(f"tcp://{LOOPBACK}:{port}")
            except zmq.ZMQError:
                await asyncio.sleep(0.01)
            else:
                return
