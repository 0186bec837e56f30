"""The agent's end of a WebSocket, over real sockets."""

import asyncio
import socket
import struct
from typing import cast
from unittest.mock import Mock

import pytest
from harness.agents.logs import make_log, message
from harness.waiting import eventually

from kernel_agent.wire import websocket
from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.backlog import Backlog
from kernel_agent.wire.client_sessions import ClientSessions, Replay
from kernel_agent.wire.codec import Codec
from kernel_agent.wire.frames import MESSAGE_TOO_BIG
from kernel_agent.wire.handshake import Handshake
from kernel_agent.wire.message import IOPUB, Message, make_header, make_message
from kernel_agent.wire.peer_encoder import NO_LIMIT
from kernel_agent.wire.websocket import Limits, WebSocket

MASKED_CLOSE_1009 = b"\x88\x82\0\0\0\0" + struct.pack("!H", MESSAGE_TOO_BIG)
PING = b"\x89\x08" + bytes(7)
"""But for the last byte of its number, as `PONG`."""
PONG = b"\x8a\x88" + bytes(4) + bytes(7)
MASKED_CLOSE = b"\x88\x80" + bytes(4)
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


def stream(size: int) -> Message:
    """Return output of so many bytes."""
    return make_message(IOPUB, make_header("stream", "k", "m", ""), {"text": "x" * size}, b"{}")


GREETING = make_message(
    IOPUB, make_header("status", "k", "greeting", ""), {"execution_state": "idle"}
)


def make_sessions() -> ClientSessions:
    """Make the sessions of a kernel without any."""
    return ClientSessions(make_log(1 << 23), MessageFactory().loss)


async def connect(
    sessions: ClientSessions, replay: Replay | None = None
) -> tuple[socket.socket, asyncio.Transport]:
    """Return a client's socket that reads by hand, and the agent's end of its WebSocket."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    listener.close()
    connection = WebSocket(
        handshake=Handshake(Codec.LEGACY, NO_LIMIT, {}),
        factory=MessageFactory(),
        sessions=sessions,
        backlog=Backlog(),
        limits=Limits(1 << 20, max_output_bytes=0, ping_interval=0),
        receive=lambda _session, _request: None,
    )
    made, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, accepted)
    transport = cast("asyncio.Transport", made)
    connection.open(transport, "s", b"", GREETING, replay)
    return client, transport


async def test_close_frame_is_read_although_a_write_failed_first() -> None:
    """The size limit that it tells is learnt: the client need not come back for each message."""
    sessions = make_sessions()
    client, transport = await connect(sessions)
    sessions.broadcast([stream(10_000)])
    transport.pause_reading()  # the next thing that happens is a write
    client.sendall(MASKED_CLOSE_1009)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    client.close()
    (session,) = sessions._connected.values()
    while session.connection is not None:
        sessions.broadcast([stream(100)])
        await asyncio.sleep(0)
    assert session.peer.max_bytes < 11_000
    assert session.peer.has_refused


async def test_ping_that_is_asked_for_leaves_with_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one write, also while another one is under way: a client that reconnects has read both."""
    sessions = make_sessions()
    client, transport = await connect(sessions)
    write = Mock(wraps=transport.write)
    monkeypatch.setattr(transport, "write", write)
    for number in (1, 2):
        before = write.call_count
        sessions.broadcast([stream(10)], request_ack=True)
        assert client.recv(1 << 16).endswith(PING + bytes([number]))
        assert write.call_count == before + 1
    (session,) = sessions._connected.values()
    client.sendall(PONG + b"\1" + PONG + b"\2")
    await eventually(lambda: session.cursor.is_flushed)
    client.close()
    transport.abort()
    await asyncio.sleep(0)


async def test_message_that_is_acknowledged_late_is_not_sent_again() -> None:
    """JupyterLab connects anew upon `restarting`: its pong may arrive after its new connection."""
    sessions = make_sessions()
    first, _ = await connect(sessions)
    sessions.broadcast([stream(10)], request_ack=True)
    second, transport = await connect(sessions)
    sessions.broadcast([stream(11)])
    first.sendall(PONG + b"\1" + MASKED_CLOSE)
    (session,) = sessions._connected.values()
    await eventually(lambda: session.former is None)
    received = second.recv(1 << 16)
    assert b'"greeting"' in received
    assert b'"text":"' + 11 * b"x" + b'"' in received
    assert b'"text":"' + 10 * b"x" + b'"' not in received
    assert first.recv(1 << 16).endswith(b"another connection took over")
    for client in (first, second):
        client.close()
    transport.abort()
    await asyncio.sleep(0)


@pytest.mark.parametrize("end", ["close", "reset", "timeout", "broken frame"])
async def test_message_that_is_not_acknowledged_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Once the former connection has ended, or has been silent for a moment: with a ping."""
    monkeypatch.setattr(websocket, "HANDOVER_SECONDS", 0.05 if end == "timeout" else 3600)
    sessions = make_sessions()
    first, _ = await connect(sessions)
    sessions.broadcast([stream(10)], request_ack=True)
    second, transport = await connect(sessions)
    (session,) = sessions._connected.values()
    assert session.former is not None
    third, last = await connect(sessions)  # takes over meanwhile, from one that was sent nothing
    if end == "close":
        first.sendall(MASKED_CLOSE)
    elif end == "reset":
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        first.close()
    elif end == "broken frame":
        first.sendall(b"\xff\xff")
    await eventually(lambda: session.former is None)
    received = third.recv(1 << 16)
    assert b'"text":"' + 10 * b"x" + b'"' in received
    assert received.endswith(PING + b"\2")
    for client in (first, second, third):
        client.close()
    for one in (transport, last):
        one.abort()
    await asyncio.sleep(0)


async def test_ping_that_is_nearly_due_leaves_with_a_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone it would cost as much as the message, in the gateway and at the client, too."""
    monkeypatch.setattr(websocket, "ACK_PING_DELAY_SECONDS", 3600)
    monkeypatch.setattr(websocket, "ACK_PING_EARLY_SECONDS", 3600)
    sessions = make_sessions()
    client, transport = await connect(sessions)
    assert b'"greeting"' in client.recv(1 << 16)
    sessions.broadcast([stream(10)])
    assert PING not in client.recv(1 << 16)
    sessions.broadcast([stream(10)])
    assert client.recv(1 << 16).endswith(PING + b"\1")
    sessions.broadcast([stream(10)])
    assert PING not in client.recv(1 << 16)
    (session,) = sessions._connected.values()
    client.sendall(PONG + b"\1")
    await eventually(lambda: not session.cursor.is_ping_under_way)
    sessions.broadcast([stream(10)])
    assert client.recv(1 << 16).endswith(PING + b"\2")
    client.close()
    transport.abort()
    await asyncio.sleep(0)


async def test_each_connection_is_greeted_before_what_it_missed() -> None:
    """A front end may use none but its second connection, so it is told again what runs."""
    sessions = make_sessions()
    for text in ("first", "second"):
        sessions.broadcast([make_message(IOPUB, make_header(text, "k", text, ""), {})])
        client, transport = await connect(sessions)
        data = client.recv(1 << 16)
        assert data.index(b'"greeting"') < 100
        assert (b'"second"' in data) is (text == "second")
        client.close()
        transport.abort()
        await asyncio.sleep(0)


async def test_replay_that_finds_little_goes_on_and_lets_others_run() -> None:
    """The log is read in steps, between which the event loop turns."""
    sessions = make_sessions()
    sessions.broadcast([message("stream", 10, parent="a")])
    for _ in range(60):
        sessions.broadcast([message("stream", 40_000, parent="b")])
    sessions.broadcast([message("stream", 11, parent="a")])
    client, transport = await connect(sessions, Replay(["a"], is_running=False))
    (session,) = sessions._connected.values()
    assert not session.cursor.is_at_end
    await eventually(lambda: session.cursor.is_at_end)
    data = client.recv(1 << 16)
    assert data.count(b'"content":xxx') == 2
    client.close()
    transport.abort()
    await asyncio.sleep(0)
