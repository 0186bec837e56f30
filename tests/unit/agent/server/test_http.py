"""Bytes that reach the agent's HTTP port: no exception, no memory, no request that was not made."""

import asyncio
from typing import Any

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernel_agent.server.http import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    Answer,
    HttpConnection,
    HttpServer,
    Request,
    json_response,
)

TOKEN = "t0ken"
AUTHORIZATION = f"Authorization: Bearer {TOKEN}".encode()
CHUNKED = b"\r\n".join(
    [b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", AUTHORIZATION, b"", b""]
)
words = st.binary(max_size=40)
targets = st.one_of(
    words.map(lambda word: b"/" + word),
    words,
    st.sampled_from([b"//[", b"http://[::1", b"/%", b"/?a=%ff&&=&b", b"*", b"//host:port/", b"/#"]),
)
heads = st.tuples(
    st.one_of(st.sampled_from([b"GET", b"POST", b"PUT", b"CONNECT", b"M-SEARCH"]), words),
    targets,
    st.lists(
        st.one_of(
            st.just(AUTHORIZATION),
            st.tuples(words, words).map(b": ".join),
            st.sampled_from(
                [
                    b"Content-Length: 5",
                    b"Content-Length: -1",
                    b"Content-Length: " + b"9" * 5000,
                    b"Transfer-Encoding: chunked",
                    b"Upgrade: websocket",
                    b"Connection: upgrade",
                    b"Expect: 100-continue",
                    b"Host: a",
                    b"Host: b",
                ]
            ),
        ),
        max_size=8,
    ),
    st.binary(max_size=80),
).map(lambda parts: b"\r\n".join([b"%b %b HTTP/1.1" % parts[:2], *parts[2], b"", b""]) + parts[3])


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        """Keep it."""
        assert not self.is_closed
        self.written += data

    def close(self) -> None:
        """Close it."""
        self.is_closed = True

    abort = close


class Peer:
    """A connection to a server that answers with what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        server = HttpServer(self._answer, TOKEN, {})
        self.wire = Wire()
        self.connection: HttpConnection = server()
        self.connection.connection_made(self.wire)

    async def _answer(self, request: Request) -> Answer:
        self.requests.append(request)
        return json_response({"path": request.path, "body": len(request.body)})

    async def send(self, *portions: bytes) -> None:
        """Have bytes arrive, until the connection is closed."""
        for portion in portions:
            if self.wire.is_closed:
                break
            self.connection.data_received(portion)
            for _ in range(3):
                await asyncio.sleep(0)  # the answers are tasks
        self.connection.connection_lost(None)

    def statuses(self) -> list[int]:
        """Return the statuses of the answers, which must be HTTP."""
        client, found = h11.Connection(h11.CLIENT), []
        rest = self.wire.written
        while rest:
            client = h11.Connection(h11.CLIENT)
            client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
            client.send(h11.EndOfMessage())
            client.receive_data(rest)
            response = client.next_event()
            assert isinstance(response, h11.Response | h11.InformationalResponse)
            found.append(response.status_code)
            while not isinstance(client.next_event(), h11.EndOfMessage):
                pass
            rest = client.trailing_data[0]
        return found


@given(st.one_of(heads, st.binary(max_size=300)), st.integers(1, 60))
@example(b"GET //[ HTTP/1.1\r\nHost: a\r\n" + AUTHORIZATION + b"\r\n\r\n", 60)
def test_whatever_arrives_is_answered_or_cut(data: bytes, size: int) -> None:
    """In whatever portions: answers are HTTP, and a request without the token gets nowhere."""

    async def run() -> None:
        peer = Peer()
        await peer.send(*(data[at : at + size] for at in range(0, len(data), size)))
        assert all(status in {200, 400, 401, 413, 431, 501} for status in peer.statuses())
        if AUTHORIZATION.lower() not in data.lower():
            assert peer.requests == []

    asyncio.run(run())


@given(st.sampled_from([b"/v1/state", b"/v1/events?a=1", b"/%2e%2e/"]), st.binary(max_size=200))
def test_request_arrives_as_it_was_made(target: bytes, body: bytes) -> None:
    """Twice on a connection, byte by byte."""

    async def run() -> None:
        peer = Peer()
        length = b"Content-Length: %d" % len(body)
        lines = [b"POST %b HTTP/1.1" % target, b"Host: a", AUTHORIZATION, length]
        data = b"\r\n".join([*lines, b"", body])
        await peer.send(*(bytes([byte]) for byte in data * 2))
        assert peer.statuses() == [200, 200]
        for request in peer.requests:
            assert request.path.encode() == target.partition(b"?")[0]
            assert request.body == body

    asyncio.run(run())


@pytest.mark.parametrize(
    ("beginning", "endless", "limit"),
    [
        (b"GET /", b"a" * 1000, MAX_HEADER_BYTES),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 100, MAX_HEADER_BYTES),
        (b"GET / HTTP/1.1\r\nHost: ", b"a" * 1000, MAX_HEADER_BYTES),
        (b"\r\n", b"\r\n" * 500, MAX_HEADER_BYTES),
        (
            CHUNKED,
            b"3e8\r\n" + b"a" * 1000 + b"\r\n",
            MAX_BODY_BYTES,
        ),
    ],
    ids=["request line", "headers", "header", "empty lines", "chunks"],
)
async def test_nothing_is_endless(beginning: bytes, endless: bytes, limit: int) -> None:
    """The connection is closed once the limit is passed."""
    peer = Peer()
    await peer.send(beginning, *[endless] * (3 * limit // len(endless)))
    assert peer.wire.is_closed
    assert peer.requests == []
