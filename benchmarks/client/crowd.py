"""Many WebSocket clients in one event loop, which do nothing but read and answer pings."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.simulation.kernel import read_stamp
from jupyter_wire.frames import (
    Data,
    FrameReader,
    Opcode,
    client_frame,
    make_key,
    upgrade_request,
)

CONNECT_SECONDS = 60.0
CONNECTING = 32
"""How many do so at the same time."""


@dataclass(frozen=True)
class Target:
    """What one client connects to."""

    host: str
    port: int
    path: str
    headers: Mapping[str, str]


class Crowd:
    """The clients.

    Attributes:
        delays: seconds that each message was under way.
        lost: how many connections have ended.
    """

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.lost = 0
        self._members: list[Member] = []
        self._arrival = asyncio.Event()

    async def connect(self, targets: Sequence[Target]) -> None:
        """Connect one client to each; ConnectionError or TimeoutError if one cannot."""
        limit = asyncio.Semaphore(CONNECTING)
        loop = asyncio.get_running_loop()

        async def connect(target: Target) -> None:
            async with limit:
                _, member = await loop.create_connection(
                    lambda: Member(self, target), target.host, target.port
                )
                self._members.append(member)
                await member.ready

        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.gather(*map(connect, targets))

    def note(self, delays: Iterable[float]) -> None:
        """Count messages by the seconds that they took."""
        self.delays += delays
        self._arrival.set()

    async def wait_for(self, messages: int, seconds: float) -> None:
        """Wait until so many messages have come, but not longer than so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self.delays) < messages:
                    self._arrival.clear()
                    await self._arrival.wait()

    def close(self) -> None:
        """Cut all connections."""
        for member in self._members:
            member.transport.abort()


class Member(asyncio.Protocol):
    """One client.

    Attributes:
        ready: done when the WebSocket is open.
    """

    transport: asyncio.Transport

    def __init__(self, crowd: Crowd, target: Target) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._crowd = crowd
        self._target = target
        self._head = b""
        self._reader = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the WebSocket."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        target = self._target
        transport.write(
            upgrade_request(target.host, target.port, target.path, target.headers, make_key())
        )

    def data_received(self, data: bytes) -> None:
        """Note how long messages took, and answer pings."""
        if not self.ready.done():
            self._head += data
            if b"\r\n\r\n" not in self._head:
                return
            head, _, data = self._head.partition(b"\r\n\r\n")
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self.ready.set_exception(ConnectionError(head.decode(errors="replace")))
                return
            self.ready.set_result(None)
        messages: list[Data] = []
        self._reader.feed(data, messages)
        now = time.monotonic_ns()
        self._crowd.note((now - read_stamp(message)) / 1e9 for _, message in messages)
        pings, self._reader.pings = self._reader.pings, []
        for ping in pings:
            self.transport.write(client_frame(ping, Opcode.PONG))

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it."""
        self._crowd.lost += 1
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("closed during the handshake"))


@contextmanager
def running(runner: asyncio.Runner) -> Iterator[Crowd]:
    """A crowd for the time of a block, driven by `runner`."""
    crowd = Crowd()
    try:
        yield crowd
    finally:
        crowd.close()
        runner.run(asyncio.sleep(0))
