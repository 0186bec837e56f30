"""Whatever goes wrong, clients get JSON, and nothing that is not for them."""

import asyncio
import gzip
import json
import logging
from io import BytesIO

import pytest
from harness.gateways.web_server import ANSWER_DEADLINE, TOKEN, read_error, serve_routes
from harness.waiting import eventually

HEADERS = {"Authorization": f"token {TOKEN}"}


@pytest.mark.parametrize(
    ("path", "method", "status", "message"),
    [
        ("/conflict", "GET", 409, "The kernel id is taken."),
        ("/unavailable", "GET", 503, "The engine does not answer."),
        ("/nothing/here", "GET", 404, ""),
        ("/", "GET", 404, ""),
        ("/api/kernels", "DELETE", 405, "This resource does not support the request's method."),
    ],
)
async def test_error_is_json_with_reason_and_message(
    path: str, method: str, status: int, message: str
) -> None:
    """Errors of handlers and of routing have the same shape."""
    async with serve_routes() as served:
        answer = await served.ask(path, method, headers=HEADERS)
        assert answer.status == status
        assert await answer.json() == {"reason": answer.reason, "message": message}
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_error_keeps_its_headers() -> None:
    """503 has `Retry-After`, 405 has `Allow`."""
    async with serve_routes() as served:
        assert (await served.ask("/unavailable", headers=HEADERS)).headers["Retry-After"] == "7"
        answer = await served.ask("/api/kernels", "DELETE", headers=HEADERS)
        assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}


async def test_bug_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """The traceback is in the log; the client reads that something failed."""
    async with serve_routes() as served:
        answer = await served.ask(f"/broken?token={TOKEN}")
        assert answer.status == 500
        assert (await answer.json())["reason"] == "Internal Server Error"
        assert "not-for-clients" not in await answer.text()
        assert "Traceback" not in await answer.text()
        assert (await served.ask(f"/t/{TOKEN}/broken")).status == 500
    assert "RuntimeError: not-for-clients" in caplog.text
    assert TOKEN not in caplog.text


async def test_server_does_not_name_its_software() -> None:
    """The `Server` header names no version."""
    async with serve_routes() as served:
        server = (await served.ask("/api")).headers["Server"]
        malformed = await served.send(b"garbage\r\n\r\n")
    assert server == "EnterpriseGateway"
    assert b"Server: EnterpriseGateway\r\n" in malformed


async def test_client_that_goes_away_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A body that is cut short does not fill the log."""
    head = f"POST /api/kernels?token={TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    async with serve_routes() as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(head.encode() + b"half")
        await writer.drain()
        writer.transport.abort()
        assert (await served.ask("/api")).status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /api HTTP/9.9\r\n\r\n", 400),
        (b"GET /api HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n", 400),
        (b"GET /api HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /api HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /api?" + b"y" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    ],
)
async def test_what_is_not_http_is_answered_and_closed(
    caplog: pytest.LogCaptureFixture, raw: bytes, status: int
) -> None:
    """Malformed requests get JSON too, and no traceback fills the log."""
    async with serve_routes() as served:
        found, body = read_error(await served.send(raw))
        assert found == status
        assert set(body) == {"reason", "message"}
        assert (await served.ask("/api")).status == 200
    assert "Traceback" not in caplog.text


async def test_token_in_a_malformed_request_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The parser's message, which quotes the client's bytes, is neither sent nor logged."""
    caplog.set_level(logging.DEBUG)
    async with serve_routes() as served:
        raw = await served.send(f"GET /api?token={TOKEN} HTP/1.1\r\n\r\n".encode())
    assert TOKEN.encode() not in raw
    assert TOKEN not in caplog.text


async def test_body_too_large_is_refused() -> None:
    """10 MB are more than any request needs: 413, and the gateway goes on."""
    async with serve_routes() as served:
        answer = await served.ask(
            "/api/kernels", "POST", headers=HEADERS, data=BytesIO(b"x" * 10_000_000)
        )
        assert answer.status == 413
        assert (await answer.json())["message"] == "The request's body exceeds max_body_bytes."
        answer = await served.ask("/api/kernels", "POST", headers=HEADERS, data=b"x" * 1_000_000)
        assert (await answer.json())["body"] == 1_000_000


async def test_malformed_chunked_body_is_refused() -> None:
    """A broken body is the client's error."""
    async with serve_routes() as served:
        raw = await served.send(
            b"POST /api/kernels HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            + f"Authorization: token {TOKEN}\r\n".encode()
            + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n0\r\n\r\n"
        )
        assert read_error(raw)[0] == 400


async def test_body_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that promises a body and stays silent does not hold a request for ever."""
    monkeypatch.setattr("enterprise_gateway.web.access.middleware.BODY_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("enterprise_gateway.web.connections.protocol.LINGERING_SECONDS", 0.2)
    async with serve_routes() as served:
        raw = await served.send(
            b"POST /api/kernels HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
            + f"Authorization: token {TOKEN}\r\n\r\n".encode()
        )
        assert read_error(raw)[0] == 408


async def test_header_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that trickles its header, or says nothing, is closed."""
    monkeypatch.setattr("enterprise_gateway.web.connections.protocol.FIRST_REQUEST_SECONDS", 0.2)
    async with serve_routes() as served:
        assert await served.send(b"GET /api HT") == b""
        assert await served.send(b"GET /api HTTP/1.1\r\nHost: x\r\n") == b""
        assert await served.send(b"") == b""


async def test_client_that_goes_away_cancels_its_request() -> None:
    """The handler of a client that has gone is cancelled."""
    async with serve_routes() as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(f"GET /waiting?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await writer.drain()
        await asyncio.wait_for(served.started.wait(), ANSWER_DEADLINE)
        writer.close()
        await asyncio.wait_for(served.cancelled.wait(), ANSWER_DEADLINE)


async def test_stopping_finishes_requests_in_progress() -> None:
    """They are answered with `Connection: close`; new connections are refused."""
    async with serve_routes() as served:
        request = asyncio.create_task(served.ask("/waiting", headers=HEADERS))
        await asyncio.wait_for(served.started.wait(), ANSWER_DEADLINE)

        async def is_refused() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            except ConnectionRefusedError:
                return True
            writer.close()
            return False

        async def finish_once_closed() -> None:
            await eventually(is_refused)
            served.finishing.set()

        finishing = asyncio.create_task(finish_once_closed())
    await finishing
    answer = await request
    assert answer.status == 200
    assert answer.headers["Connection"] == "close"
    assert not served.cancelled.is_set()


async def test_stopping_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that takes longer than the longest deadline is cancelled."""
    monkeypatch.setattr("enterprise_gateway.web.server.SHUTDOWN_SECONDS", 0.2)
    monkeypatch.setattr("enterprise_gateway.web.server.longest_request_seconds", lambda _: 0.2)
    async with serve_routes() as served:
        request = asyncio.create_task(served.ask("/waiting", headers=HEADERS))
        await asyncio.wait_for(served.started.wait(), ANSWER_DEADLINE)
    assert served.cancelled.is_set()
    await asyncio.gather(request, return_exceptions=True)


async def test_empty_body_of_json_type_is_no_error() -> None:
    """Some clients say application/json and send nothing."""
    headers = {**HEADERS, "Content-Type": "application/json"}
    async with serve_routes() as served:
        answer = await served.ask("/api/kernels", "POST", headers=headers)
        assert json.loads(await answer.text())["body"] == 0


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(bytes(100_000_000), 1)),
        ("GZIP", b"no gzip at all"),
        ("deflate", b"x"),
        ("identity, gzip", b"x"),
        ("unheard-of", b"x"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_compressed_body_is_refused_as_it_is(
    caplog: pytest.LogCaptureFixture, encoding: str, body: bytes
) -> None:
    """No body is decompressed, not even to discard it after a 401."""
    caplog.set_level(logging.DEBUG)
    compressed = {"Content-Encoding": encoding}
    async with serve_routes() as served:
        answer = await served.ask("/api/kernels", "POST", headers=compressed, data=body)
        assert answer.status == 401
        answer = await served.ask("/api/kernels", "POST", headers=HEADERS | compressed, data=body)
        assert answer.status == 415
        assert answer.headers["Accept-Encoding"] == "identity"
        assert "without Content-Encoding" in (await answer.json())["message"]
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("path", ["/api/kernels", "/nothing/here", "/healthz"])
@pytest.mark.parametrize("expectation", [b"x", b"200-ok; secret", b"\xff\xfe"])
async def test_unknown_expectation_is_refused_in_json(path: str, expectation: bytes) -> None:
    """417, without an echo of the header."""
    async with serve_routes() as served:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
        raw = await served.send(head + b"Expect: " + expectation + b"\r\n\r\n")
        status, body = read_error(raw)
        assert status == 417
        assert body["reason"] == "Expectation Failed"
        assert expectation not in raw.partition(b"\r\n\r\n")[2] or expectation == b"x"


async def test_body_is_asked_for_once_the_client_may_send_it() -> None:
    """With `Expect: 100-continue` a refused client sends no body."""
    head = "POST /api/kernels{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
    async with serve_routes() as served:
        raw = await served.send(head.format("").encode() + b"Expect: 100-continue\r\n\r\n{}")
        assert raw.startswith(b"HTTP/1.1 401 ")
        granted = head.format(f"?token={TOKEN}").encode()
        raw = await served.send(granted + b"Expect: 100-Continue\r\n\r\n{}")
        assert raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("target", "chunks"),
    [
        ("/api/kernels?user=josé", 1),
        ("/api/kernels?user=ann lee", 1),
        ("/api/kernels?user=山田 太郎/python3", 1),
        ("/api/kernels?user=josé", 40),
    ],
)
async def test_query_may_be_as_jupyter_servers_send_it(target: str, chunks: int) -> None:
    """They put KERNEL_USERNAME into it unescaped."""
    raw = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    raw += f"Authorization: token {TOKEN}\r\n\r\n".encode()
    size = -(-len(raw) // chunks)
    async with serve_routes() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        for start in range(0, len(raw), size):
            writer.write(raw[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


# request ids


async def test_answer_and_log_have_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    """The client's own or a new one, on errors and refusals, too."""
    caplog.set_level(logging.DEBUG)
    async with serve_routes() as served:
        for path in ("/healthz", "/api/kernels", "/nothing", "/conflict", f"/api?token={TOKEN}"):
            answer = await served.ask(path, headers={"X-Request-ID": f"id-of-{path[1:4]}"})
            assert answer.headers["X-Request-ID"] == f"id-of-{path[1:4]}"
            assert vars(caplog.records[-1])["request_id"] == f"id-of-{path[1:4]}"
        made = [(await served.ask("/healthz")).headers["X-Request-ID"] for _ in range(2)]
        assert len(set(made)) == 2
        for unsafe in ("a b", "x" * 129, "a;b", "", "é"):
            answer = await served.ask("/healthz", headers={"X-Request-ID": unsafe})
            assert answer.headers["X-Request-ID"] != unsafe
        assert b"\r\nX-Request-ID: " in await served.send(b"garbage\r\n\r\n")
