"""Connections that bring no request take no other client's place."""

import asyncio
import logging
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from harness.gateways.web_server import ANSWER_DEADLINE, TOKEN, Served, serve_routes
from harness.waiting import eventually

from enterprise_gateway.settings import ServerSettings
from enterprise_gateway.web.connections import listener

REQUEST = b"GET /api/kernels HTTP/1.1\r\nHost: x\r\nAuthorization: token " + TOKEN.encode()
BEGINNINGS = [b"", b"GET /api", b"GET /api HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01\x02"]


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the deadline of first requests out of these tests."""
    monkeypatch.setattr("enterprise_gateway.web.connections.protocol.FIRST_REQUEST_SECONDS", 600.0)


class Peer:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self) -> int:
        """Send a request and return the status."""
        self.writer.write(REQUEST + b"\r\n\r\n")
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        await self.reader.readexactly(length)
        return int(head.split()[1])

    async def is_closed(self) -> bool:
        """Return whether the server has closed the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 0.01) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


@asynccontextmanager
async def connected(
    served: Served, sent: bytes = b"", *, source: str = "127.0.0.1"
) -> AsyncIterator[Peer]:
    """Connect, and send some bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, local_addr=(source, 0))
    try:
        writer.write(sent)
        yield Peer(reader, writer)
    finally:
        writer.close()


async def test_oldest_silent_connection_of_an_address_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither other addresses nor connections with a request in progress suffer."""
    monkeypatch.setattr(listener, "MAX_IDLE_PER_ADDRESS", 4)
    async with serve_routes() as served, AsyncExitStack() as stack:

        async def connect(sent: bytes = b"", source: str = "127.0.0.1") -> Peer:
            return await stack.enter_async_context(connected(served, sent, source=source))

        neighbour = await connect(source="127.0.0.2")
        kept = await connect()
        assert await kept.ask() == 200
        waiting = await connect(REQUEST.replace(b"/api/kernels", b"/waiting") + b"\r\n\r\n")
        await asyncio.wait_for(served.started.wait(), ANSWER_DEADLINE)
        silent = [await connect(sent) for sent in BEGINNINGS]
        await eventually(kept.is_closed)
        late = await connect(b"GET")
        await eventually(silent[0].is_closed)
        assert not await silent[1].is_closed()
        assert await neighbour.ask() == 200
        late.writer.write(REQUEST.removeprefix(b"GET") + b"\r\n\r\n")
        assert (await late.reader.readuntil(b"\r\n")).split()[1] == b"200"
        served.finishing.set()
        assert (await waiting.reader.readuntil(b"\r\n")).split()[1] == b"200"


async def test_connection_is_idle_again_after_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that had a request is idle after it, like others."""
    monkeypatch.setattr(listener, "MAX_IDLE_PER_ADDRESS", 2)
    async with serve_routes() as served, AsyncExitStack() as stack:
        peers = []
        for _ in range(3):
            peers.append(await stack.enter_async_context(connected(served)))
            assert await peers[-1].ask() == 200
        await eventually(peers[0].is_closed)
        assert await peers[1].ask() == 200
        assert await peers[2].ask() == 200


async def test_proxies_have_no_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """All clients of a balancer come from its address."""
    monkeypatch.setattr(listener, "MAX_IDLE_PER_ADDRESS", 1)
    server = ServerSettings(port=0, trust_xheaders=True)
    async with serve_routes(server) as served, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(connected(served)) for _ in range(20)]
        for peer in peers:
            assert await peer.ask() == 200


SCARCE = """
import asyncio, resource, sys
from harness.gateways.web_server import serve_routes
from enterprise_gateway.web.access import middleware
async def main():
    async with serve_routes() as served:
        print(served.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
middleware.BODY_TIMEOUT_SECONDS = 600.0
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
asyncio.run(main())
"""


@asynccontextmanager
async def scarce(log: Path) -> AsyncIterator[Served]:
    """Run a server of 256 descriptors in a process of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1024), hard))
    root = Path(__file__).parents[3]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(  # noqa: ASYNC220 - the test does not wait for it
            [sys.executable, "-c", SCARCE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": f"{root / 'tests'}:{root}"},
        ) as process,
    ):
        assert process.stdout is not None
        port = int(await asyncio.to_thread(process.stdout.readline))
        try:
            yield Served(None, port)  # type: ignore[arg-type] # its settings are elsewhere
        finally:
            await asyncio.to_thread(process.communicate)
    check_log(log)


def check_log(log: Path, shortages: int | None = None) -> None:
    """Check that nothing failed, and how often a shortage was logged."""
    text = log.read_text()
    assert "Traceback" not in text
    assert shortages is None or text.count("File descriptors are running out") == shortages


async def test_silent_connections_leave_room_for_requests(tmp_path: Path) -> None:
    """Twice as many as there are descriptors, from any number of addresses."""
    async with scarce(tmp_path / "log") as served, AsyncExitStack() as stack:
        for index in range(500):
            source = f"127.0.1.{index % 250 + 1}"
            peer = connected(served, BEGINNINGS[index % len(BEGINNINGS)], source=source)
            await stack.enter_async_context(peer)
            if index % 50 == 49:
                assert await probe(served.port) == 200
        async with connected(served, source="127.0.3.1") as peer:
            assert await peer.ask() == 200


async def test_probes_are_answered_when_descriptors_run_out(tmp_path: Path) -> None:
    """Requests in progress may use all other descriptors: further requests get 503."""
    head = REQUEST.replace(b"GET", b"POST") + b"\r\nContent-Length: 9\r\nExpect: 100-continue"
    async with scarce(tmp_path / "log") as served, AsyncExitStack() as stack:
        statuses = [b"100"]
        while statuses[-1] == b"100":
            peer = await stack.enter_async_context(connected(served, head + b"\r\n\r\n"))
            statuses.append((await peer.reader.readuntil(b"\r\n")).split()[1])
        assert statuses[-1] == b"503"
        assert 180 < len(statuses) < 256
        for _ in range(3):
            assert await probe(served.port) == 200
            async with connected(served) as peer:
                assert await peer.ask() == 503
    check_log(tmp_path / "log", shortages=1)


async def probe(port: int) -> int:
    """Return the status of a load balancer's health check."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(ANSWER_DEADLINE):
            return int((await reader.readuntil(b"\r\n")).split()[1])
    finally:
        writer.close()


async def test_shortage_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line a minute names the limit to raise, however many connections come."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(listener, "RESERVED_DESCRIPTORS", 10**6)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1, 1))
    async with serve_routes() as served:
        for _ in range(5):
            async with connected(served):
                assert await probe(served.port) == 200
    lines = [record.message for record in caplog.records if "descriptors" in record.message]
    assert len(lines) == 1
    assert "--ulimit nofile" in lines[0]
