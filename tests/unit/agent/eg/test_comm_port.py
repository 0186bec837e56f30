"""Requests to the comm port of a launcher, here a bare listener."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from kernel_agent.eg import comm_port
from kernel_agent.eg.comm_port import CommPort


class Listener:
    """Takes one connection at a time, as a launcher's listener does."""

    def __init__(self) -> None:
        self.requests: list[dict[str, int]] = []
        self._turn = asyncio.Lock()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1)
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Listen no longer."""
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._turn:
            self.requests.append(json.loads(await reader.read()))
            writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """A listener of this test; `start` starts it."""
    listening = Listener()
    yield listening
    listening.stop()


async def test_requests_arrive_in_order(listener: Listener) -> None:
    """Also those that were not waited for."""
    port = CommPort("127.0.0.1", await listener.start())
    sent = await asyncio.gather(*(port.send(signum=number) for number in range(20)))
    assert all(sent)
    assert listener.requests == [{"signum": number} for number in range(20)]


async def test_missing_listener_is_told() -> None:
    """The launcher has ended."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert not await CommPort("127.0.0.1", port).send(signum=2)


async def test_listener_that_takes_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped, or dead while another process holds its socket."""
    monkeypatch.setattr(comm_port, "ACCEPT_TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
        assert not await CommPort("127.0.0.1", deaf.getsockname()[1]).send(signum=2)
