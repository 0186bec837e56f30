"""Two connections joined, one of which breaks."""

import asyncio
import socket
import struct
from typing import cast

import pytest

from enterprise_gateway.web.channels.splice import ReadBuffer, Splice

DEADLINE = 60.0
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


async def connect() -> tuple[socket.socket, asyncio.Transport]:
    """Return the two ends of a TCP connection; the second one is the gateway's."""
    listener = socket.create_server(("127.0.0.1", 0))
    far = socket.create_connection(listener.getsockname())
    near, _ = listener.accept()
    listener.close()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, near)
    return far, cast("asyncio.Transport", transport)


async def test_last_bytes_are_passed_on_although_a_write_failed_first() -> None:
    """A close frame reaches the agent, even if a write to the client failed."""
    client, client_transport = await connect()
    agent, agent_transport = await connect()
    splice = Splice(client_transport, agent_transport, ReadBuffer(), on_end=lambda: None)
    client_transport.pause_reading()  # the next event is a write
    client.sendall(b"closed: too large")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    client.close()
    agent.sendall(b"output")
    async with asyncio.timeout(DEADLINE):
        await splice.closed
    assert agent.recv(100) == b"closed: too large"
    agent.close()


@pytest.mark.parametrize(
    ("last", "is_lost"),
    [
        (b"\x81\x02{}\x89\x08" + bytes(8), True),
        (b"\x81\x02{}", True),
        (b"\x81\x7e\x01\x00{", False),
        (b"\x88\x02\x03\xe9", False),
        (b"", True),
    ],
    ids=["acknowledgement", "message", "in a frame", "close frame", "nothing"],
)
async def test_client_of_a_lost_agent_can_be_told_why(last: bytes, *, is_lost: bool) -> None:
    """If the agent was cut at the end of a frame; else the client's connection ends as well."""
    client, client_transport = await connect()
    agent, agent_transport = await connect()
    splice = Splice(client_transport, agent_transport, ReadBuffer(), on_end=lambda: None)
    agent.sendall(last)
    agent.close()
    async with asyncio.timeout(DEADLINE):
        if is_lost:
            await splice.agent_lost
            splice.write_to_client(b"why")
            splice.close()
        client.shutdown(socket.SHUT_WR)
        await splice.closed
    assert splice.agent_lost.done() is is_lost
    assert client.recv(100) == last + (b"why" if is_lost else b"")
    client.close()


@pytest.mark.parametrize("is_at_boundary", [True, False])
async def test_agent_whose_machine_is_gone_is_given_up(*, is_at_boundary: bool) -> None:
    """Its connection does not end by itself."""
    client, client_transport = await connect()
    agent, agent_transport = await connect()
    splice = Splice(client_transport, agent_transport, ReadBuffer(), on_end=lambda: None)
    agent.sendall(b"\x89\x04live" if is_at_boundary else b"\x81")
    client.settimeout(0)
    async with asyncio.timeout(DEADLINE):
        await asyncio.get_running_loop().sock_recv(client, 100)
        splice.give_up_agent()
        if is_at_boundary:
            await splice.agent_lost
            splice.close()
        await splice.closed
    assert splice.agent_lost.done() is is_at_boundary
    agent.close()
    client.close()
