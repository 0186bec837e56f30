"""The splice between client and agent, byte by byte over real sockets."""

import asyncio
import functools
import gc
import hashlib
import json
import os
from pathlib import Path

import aiohttp
import pytest
from harness.agents.raw_agent import (
    ACCEPTED,
    CLIENT_TOKEN,
    DEADLINE,
    Spliced,
    Stream,
    serve_channels,
    write_certificate,
)
from harness.waiting import eventually

from enterprise_gateway.errors import GatewayError, NotFoundError, UnavailableError
from enterprise_gateway.services.kernels.agents.state import OpenRequest
from enterprise_gateway.services.kernels.kernels import DeadKernel
from enterprise_gateway.settings import KernelSettings
from enterprise_gateway.web import draining
from enterprise_gateway.web.channels import handlers, handshake, splice
from enterprise_gateway.web.connections.protocol import Connection
from jupyter_wire.frames import Opcode, client_frame

REQUEST_SECONDS = draining.longest_request_seconds(KernelSettings())
"""How long a gateway that stops waits for what it cannot end by itself."""


async def echo(stream: Stream) -> None:
    """Accept, and send back whatever comes."""
    await stream.write(ACCEPTED)
    while data := await stream.reader.read(65536):
        await stream.write(data)


async def accept_and_wait(stream: Stream) -> None:
    """Accept, and do nothing until the connection ends."""
    await stream.write(ACCEPTED)
    await stream.reader.read()


async def no_agent_connections(gateway: Spliced) -> bool:
    """Say whether every connection to the agent has ended."""
    return gateway.agent.open == 0


async def is_stopping(gateway: Spliced) -> bool:
    """Say whether the gateway has begun to stop."""
    return gateway.app[draining.DRAIN].is_stopping


async def is_connected(gateway: Spliced) -> bool:
    """Say whether a client is connected."""
    return bool(gateway.app[draining.DRAIN].connections)


def splice_tasks() -> list[str]:
    """Return the names of tasks that serve a connection."""
    names = (str(task.get_coro()) for task in asyncio.all_tasks())
    return [name for name in names if "RequestHandler" in name or "Channels" in name]


def count_connections() -> int:
    """Return how many connections and splices are in memory."""
    gc.collect()
    kinds = {splice.Splice, Connection}
    return sum(type(thing) in kinds for thing in gc.get_objects())


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_bytes_pass_both_ways(tmp_path: Path, kind: str) -> None:
    """Whatever the client writes after the handshake comes back from an echoing agent."""
    async with serve_channels(echo, str(tmp_path / "s") if kind == "unix" else "") as gateway:
        client = await gateway.open()
        for size in (1, 125, 70_000):
            data = os.urandom(size)
            await client.write(data)
            assert await client.read(size) == data
        await client.close()
        await eventually(lambda: no_agent_connections(gateway))


async def test_agent_gets_its_own_token_and_none_of_the_clients() -> None:
    """Credentials of the client end at the gateway, whatever form they have."""
    async with serve_channels(echo) as gateway:
        client = await gateway.dial(
            query=f"?session_id=s1&token={CLIENT_TOKEN}",
            headers=b"Cookie: c=" + CLIENT_TOKEN.encode() + b"\r\nUser-Agent: Tornado/6\r\n",
        )
        await client.read_head()
        (request,) = gateway.agent.requests
        assert CLIENT_TOKEN.encode() not in request
        assert request.startswith(b"GET /v1/channels?session_id=s1 HTTP/1.1\r\n")
        assert b"Authorization: Bearer agents-token\r\n" in request
        assert b"User-Agent: Tornado/6\r\n" in request
        assert b"Sec-WebSocket-Key: k\r\n" in request
        await client.close()


@pytest.mark.parametrize("size", [1, 1000, 300_000, 3_000_000])
async def test_bytes_right_behind_the_request_are_not_lost(size: int) -> None:
    """A client need not wait for the 101 before it sends frames."""
    early = os.urandom(size)
    async with serve_channels(echo) as gateway:
        dialling = asyncio.create_task(gateway.dial(early=early))
        client = await dialling
        assert await client.read_head() == ACCEPTED
        assert await client.read(size) == early
        await client.close()


@pytest.mark.parametrize("size", [1, 1000, 300_000])
async def test_bytes_right_behind_the_answer_are_not_lost(size: int) -> None:
    """What the agent sends in one segment with its 101 reaches the client."""
    data = os.urandom(size)

    async def hurry(stream: Stream) -> None:
        await stream.write(ACCEPTED + data)
        await stream.reader.read()

    async with serve_channels(hurry) as gateway:
        client = await gateway.open()
        assert await client.read(size) == data
        await client.close()


async def test_large_streams_pass_both_ways_at_once() -> None:
    """Forty megabytes each way, in order and complete."""
    blocks = [os.urandom(1 << 20) for _ in range(4)]
    async with serve_channels(echo) as gateway:
        client = await gateway.open()

        async def send() -> None:
            for _ in range(10):
                for block in blocks:
                    await client.write(block)

        sending = asyncio.create_task(send())
        sent, received = hashlib.sha256(), hashlib.sha256()
        for _ in range(10):
            for block in blocks:
                sent.update(block)
                received.update(await client.read(len(block)))
        await sending
        assert received.digest() == sent.digest()
        await client.close()


@pytest.mark.parametrize("size", [0, 1, 300_000])
async def test_bytes_pass_under_tls(tmp_path: Path, size: int) -> None:
    """With TLS towards the client everything is as without, early bytes included."""
    early, data = os.urandom(size), os.urandom(5_000_000)
    certificate = write_certificate(tmp_path / "gateway.pem")
    async with serve_channels(echo, certificate=certificate) as gateway:
        client = await gateway.open(early=early)
        assert await client.read(size) == early
        sending = asyncio.create_task(client.write(data))
        assert await client.read(len(data)) == data
        await sending
        await client.close()
        await eventually(lambda: no_agent_connections(gateway))


async def test_agent_that_ends_closes_the_client_under_tls(tmp_path: Path) -> None:
    """The last bytes arrive before the end, although TLS knows no half-closed connections."""
    data = os.urandom(2_000_000)

    async def say_and_go(stream: Stream) -> None:
        await stream.write(ACCEPTED + data)

    certificate = write_certificate(tmp_path / "gateway.pem")
    async with serve_channels(say_and_go, certificate=certificate) as gateway:
        client = await gateway.open()
        assert await client.read_all() == data
        await client.close()


async def test_slow_client_stops_the_agent_and_not_the_memory() -> None:
    """With a client that does not read, the agent can write only what buffers hold."""
    written = 0
    go_on = asyncio.Event()

    async def flood(stream: Stream) -> None:
        nonlocal written
        await stream.write(ACCEPTED)
        stream.writer.transport.set_write_buffer_limits(high=0)
        while True:
            stream.writer.write(bytes(1 << 20))
            await stream.writer.drain()
            written += 1 << 20
            go_on.set()

    async with serve_channels(flood) as gateway:
        client = await gateway.open()
        while True:
            go_on.clear()
            try:
                await asyncio.wait_for(go_on.wait(), 0.5)
            except TimeoutError:
                break
        stalled = written
        assert stalled < 64 << 20
        await client.read(8 << 20)
        await client.read(8 << 20)
        await client.read(8 << 20)
        await asyncio.wait_for(go_on.wait(), DEADLINE)
        await client.close()


@pytest.mark.parametrize("abortive", [True, False])
async def test_client_that_leaves_ends_the_agents_connection(*, abortive: bool) -> None:
    """Closed or reset, the agent hears of it, and nothing is left in the gateway."""
    async with serve_channels(accept_and_wait) as gateway:
        client = await gateway.open()
        if abortive:
            client.writer.transport.abort()
        else:
            client.writer.close()
        await eventually(lambda: no_agent_connections(gateway))

        async def is_clean() -> bool:
            return not splice_tasks()

        await eventually(is_clean)


async def test_agent_that_ends_closes_the_client_after_its_last_byte() -> None:
    """Everything that the agent sent before it went away arrives."""
    data = os.urandom(2_000_000)

    async def say_and_go(stream: Stream) -> None:
        await stream.write(ACCEPTED + data)

    async with serve_channels(say_and_go) as gateway:
        client = await gateway.open()
        assert await client.read_all() == data
        await client.close()


async def test_kernel_that_has_ended_closes_its_clients() -> None:
    """Its machine may have lost its power, and then no end of a connection arrives."""

    async def accept_and_ignore_the_end(stream: Stream) -> None:
        await stream.write(ACCEPTED + b"last bytes")
        await asyncio.Event().wait()

    async with serve_channels(accept_and_ignore_the_end) as gateway:
        clients = [await gateway.open() for _ in range(3)]
        gateway.agent.gone.set_result(None)
        for client in clients:
            assert await client.read_all() == b"last bytes"
            await client.close()


async def test_half_close_goes_through() -> None:
    """A side that has said all may still hear the rest."""

    async def answer_at_the_end(stream: Stream) -> None:
        await stream.write(ACCEPTED)
        question = await stream.reader.read()
        await stream.write(question[::-1])

    async with serve_channels(answer_at_the_end) as gateway:
        client = await gateway.open()
        await client.write(b"abc")
        client.writer.write_eof()
        assert await client.read_all() == b"cba"
        await client.close()


async def test_half_closed_connection_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never closes its side after the agent has is cut off."""
    monkeypatch.setattr(splice, "HALF_CLOSED_SECONDS", 0.2)

    async def go(stream: Stream) -> None:
        await stream.write(ACCEPTED)

    async with serve_channels(go) as gateway:
        client = await gateway.open()
        assert await client.read_all() == b""

        async def is_clean() -> bool:
            return not splice_tasks()

        await eventually(is_clean)
        await client.close()


async def test_gateway_that_stops_closes_the_connections() -> None:
    """Clients see an end at once, so that they reconnect; so does the agent."""
    loop = asyncio.get_running_loop()
    async with serve_channels(accept_and_wait) as gateway:
        clients = [await gateway.open() for _ in range(5)]
        begun = loop.time()
    assert loop.time() - begun < REQUEST_SECONDS
    for client in clients:
        assert await client.read_all() == b""
        await client.close()


async def test_gateway_that_stops_opens_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose request was under way is sent elsewhere."""
    monkeypatch.setattr(draining, "LINGER_SECONDS", DEADLINE)

    async def dial_late(gateway: Spliced) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        await eventually(lambda: is_stopping(gateway))
        token = CLIENT_TOKEN.encode()
        writer.write(b"GET /api/kernels/k/channels HTTP/1.1\r\nAuthorization: token " + token)
        writer.write(b"\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer

    async with serve_channels(accept_and_wait) as gateway:
        late = asyncio.create_task(dial_late(gateway))
        await eventually(lambda: is_connected(gateway))
    answer = await late
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in answer
    assert b"Connection: close\r\n" in answer


async def test_gateway_that_stops_does_not_wait_for_slow_clients() -> None:
    """A client that does not read what is under way cannot keep the gateway from stopping."""

    async def flood(stream: Stream) -> None:
        await stream.write(ACCEPTED)
        while True:
            await stream.write(bytes(1 << 20))

    loop = asyncio.get_running_loop()
    async with serve_channels(flood) as gateway:
        client = await gateway.open()
        await client.read(1 << 20)
        begun = loop.time()
    assert loop.time() - begun < REQUEST_SECONDS
    await client.close()


@pytest.mark.parametrize(
    ("failure", "status"),
    [(NotFoundError, 404), (UnavailableError, 503)],
)
async def test_failures_before_the_upgrade_are_json(
    failure: type[GatewayError], status: int
) -> None:
    """An unknown or unreachable kernel is answered in HTTP; the connection can be used again."""
    async with serve_channels(echo) as gateway:
        gateway.kernels.failure = functools.partial(failure, "why")
        client = await gateway.dial()
        head = await client.read_head()
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert json.loads(await client.read(length))["message"] == "why"
        await client.close()


async def test_unreachable_agent_is_unavailable() -> None:
    """503 with Retry-After if nothing listens where the agent should be."""
    async with serve_channels(echo) as gateway:
        await gateway.agent.stop()
        client = await gateway.dial()
        head = await client.read_head()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in head.lower()
        await client.close()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + b'{"reason": "r", "message": "no key"}', 400),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n{}", 503),
        (b"garbage\r\n\r\n{}", 503),
        (b"", 503),
        (b"HTTP/1.1 101 Switch", 503),
        (b"x" * 200_000, 503),
    ],
)
async def test_agent_that_refuses_is_told_in_http(answer: bytes, status: int) -> None:
    """Whatever an agent answers but 101, the client gets a proper status."""

    async def refuse(stream: Stream) -> None:
        await stream.write(answer)

    async with serve_channels(refuse) as gateway:
        client = await gateway.dial()
        assert (await client.read_head()).startswith(f"HTTP/1.1 {status} ".encode())
        await client.close()
        await eventually(lambda: no_agent_connections(gateway))


async def test_silent_agent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that takes the connection and says nothing costs a client some seconds only."""
    monkeypatch.setattr(handshake, "ANSWER_SECONDS", 0.2)

    async def wait(stream: Stream) -> None:
        await stream.reader.read()

    async with serve_channels(wait) as gateway:
        client = await gateway.dial()
        assert (await client.read_head()).startswith(b"HTTP/1.1 503 ")
        await client.close()
        await eventually(lambda: no_agent_connections(gateway))


async def test_client_that_leaves_during_the_handshake_leaks_nothing() -> None:
    """The connection to the agent is closed with the client's."""

    async def wait(stream: Stream) -> None:
        await stream.reader.read()

    async with serve_channels(wait) as gateway:
        for _ in range(5):
            client = await gateway.dial()
            await eventually(lambda: _has_request(gateway))
            client.writer.transport.abort()
            await eventually(lambda: no_agent_connections(gateway))
            gateway.agent.requests.clear()

        async def is_clean() -> bool:
            return not splice_tasks()

        await eventually(is_clean)


async def _has_request(gateway: Spliced) -> bool:
    return bool(gateway.agent.requests)


async def test_plain_get_is_refused() -> None:
    """Without an upgrade there is nothing here."""
    async with serve_channels(echo) as gateway:
        client = Stream(*await asyncio.open_connection("127.0.0.1", gateway.port))
        await client.write(
            b"GET /api/kernels/k/channels HTTP/1.1\r\nHost: g\r\nAuthorization: token "
            + CLIENT_TOKEN.encode()
            + b"\r\n\r\n"
        )
        assert (await client.read_head()).startswith(b"HTTP/1.1 400 ")
        await client.close()


async def test_upgrade_without_token_is_refused() -> None:
    """The agent is not even asked."""
    async with serve_channels(echo) as gateway:
        client = Stream(*await asyncio.open_connection("127.0.0.1", gateway.port))
        await client.write(
            b"GET /api/kernels/k/channels HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n\r\n"
        )
        assert (await client.read_head()).startswith(b"HTTP/1.1 401 ")
        assert not gateway.agent.requests
        await client.close()


async def test_connections_leave_no_objects_behind() -> None:
    """After a hundred connections nothing is left of them."""
    before = count_connections()
    async with serve_channels(echo) as gateway:
        for number in range(100):
            client = await gateway.open(early=b"x" * number)
            await client.read(number)
            if number % 2:
                client.writer.transport.abort()
            else:
                await client.close()
        await eventually(lambda: no_agent_connections(gateway))

        async def is_clean() -> bool:
            return count_connections() <= before

        await eventually(is_clean)


PING = b"\x89\x08" + bytes(8)
OUTPUT = b"\x81\x7e\x01\x00" + b"x" * 256
CELL = {"msg_id": "cell", "msg_type": "execute_request", "session": "s"}


def died() -> DeadKernel:
    """Return a death in the middle of a cell."""
    return DeadKernel("the node is gone", (OpenRequest("shell", CELL),), {}, asyncio.Event())


async def test_cell_of_a_client_fails_if_its_kernel_dies_with_the_agent() -> None:
    """It is told on the open connection, since nbclient and papermill do not reconnect.

    They ask for more there, and close it then.
    """
    gateway: Spliced

    async def die(stream: Stream) -> None:
        await stream.write(ACCEPTED + OUTPUT)
        gateway.kernels.dead = died()

    async with serve_channels(die) as gateway:
        client = await gateway.open()
        said = await client.reader.readuntil(b'"idle"')
        assert said.startswith(OUTPUT)
        for text in (b"KernelDied: The node is gone.", b"execute_reply"):
            assert text in said
        late = json.dumps({"header": {**CELL, "msg_id": "late"}}).encode()
        sent = client_frame(late, Opcode.TEXT) + client_frame(b"?", Opcode.PING)
        await client.write(client_frame(bytes(8), Opcode.PONG) + sent[:10])
        await client.write(sent[10:] + client_frame(b"", Opcode.CLOSE))
        said = await client.read_all()
        for text in (b"This was not run.", b"execute_reply", b'"idle"'):
            assert text in said
        assert said.endswith(b"\x8a\x01?\x88\x02\x03\xe9")
        await client.close()
        await eventually(lambda: no_agent_connections(gateway))


async def test_request_that_a_dying_agent_did_not_tell_of_fails_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gateway has passed it on, and that is all that is known of it."""
    monkeypatch.setattr(handlers, "RECONNECT_SECONDS", 0.0)
    gateway: Spliced

    async def die(stream: Stream) -> None:
        await stream.write(ACCEPTED)
        await stream.reader.readuntil(b"sent")
        gateway.kernels.dead = died()

    async with serve_channels(die) as gateway:
        cell = json.dumps({"header": {**CELL, "msg_id": "sent"}}).encode()
        early, rest = client_frame(b"", Opcode.PONG), client_frame(cell, Opcode.TEXT)
        client = await gateway.open(early=early + rest[:5])
        await client.write(rest[5:])
        for msg_id in (b'"cell"', b'"sent"'):
            said = await client.reader.readuntil(b'"idle"')
            assert said.count(msg_id) == 3, "error, reply and idle"
        assert b"This was not run." not in said
        gateway.kernels.dead.is_forgotten.set()
        assert (await client.read_all()).endswith(b"\x88\x02\x03\xe9")
        await client.close()
        await eventually(lambda: no_agent_connections(gateway))


async def test_agent_that_was_cut_in_a_message_gets_no_answers_in_its_place() -> None:
    """The client could not read them; it comes back and is told then."""
    gateway: Spliced

    async def die(stream: Stream) -> None:
        await stream.write(ACCEPTED + OUTPUT[:-1])
        gateway.kernels.dead = died()

    async with serve_channels(die) as gateway:
        client = await gateway.open()
        assert await client.read_all() == OUTPUT[:-1]
        await client.close()
        await eventually(lambda: no_agent_connections(gateway))


async def test_client_of_a_living_kernel_is_cut_with_its_agents_connection() -> None:
    """It comes back, and gets what is missing."""
    async with serve_channels(functools.partial(Stream.write, data=ACCEPTED + PING)) as gateway:
        client = await gateway.open()
        assert await client.reader.read() == PING
        await client.close()
        await eventually(lambda: no_agent_connections(gateway))


async def test_client_of_a_dead_kernel_is_answered_until_it_is_launched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After its next message its connection closes, and the next one leads to the new agent."""
    monkeypatch.setattr(handlers, "RECONNECT_SECONDS", 2 * DEADLINE)
    async with serve_channels(echo) as gateway, aiohttp.ClientSession() as http:
        dead = gateway.kernels.dead = died()
        url = f"http://127.0.0.1:{gateway.port}/api/kernels/k/channels?token={CLIENT_TOKEN}"
        async with http.ws_connect(url) as client:
            for awaited in ("KernelDied: The node is gone.", "execute_reply", '"idle"'):
                assert awaited in await client.receive_str(timeout=DEADLINE)
            header = {**CELL, "msg_id": "late"}
            await client.send_json({"channel": "shell", "header": header})
            for awaited in ("This was not run.", "execute_reply", '"idle"'):
                data = await client.receive_str(timeout=DEADLINE)
                assert awaited in data
                assert '"late"' in data
            gateway.kernels.dead = None
            dead.is_forgotten.set()
            await client.send_json({"channel": "shell", "header": header})
            for awaited in ("This was not run.", "execute_reply", '"idle"'):
                assert awaited in await client.receive_str(timeout=DEADLINE)
            assert (await client.receive(timeout=DEADLINE)).type is aiohttp.WSMsgType.CLOSE
        assert not gateway.agent.requests


async def test_client_of_a_dead_kernel_does_not_keep_the_gateway_from_stopping() -> None:
    """It is closed, so that the client goes to the next gateway."""
    async with aiohttp.ClientSession() as http:
        async with serve_channels(echo) as gateway:
            gateway.kernels.dead = died()
            url = f"http://127.0.0.1:{gateway.port}/api/kernels/k/channels?token={CLIENT_TOKEN}"
            client = await http.ws_connect(url)
            while '"idle"' not in await client.receive_str(timeout=DEADLINE):
                pass
        assert (await client.receive(timeout=DEADLINE)).data == 1001
        await client.close()
