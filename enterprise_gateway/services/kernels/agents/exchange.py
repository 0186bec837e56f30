"""One HTTP/1.1 request to a kernel agent, and its answer: h11 implements HTTP, this the limits.

An agent is not trusted: it is any program that listens where a kernel's container should. So every
answer has a largest size and a pace, nothing is decompressed, and no redirect is followed.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11

from enterprise_gateway.services.keepalive import keep_transport_alive
from enterprise_gateway.services.kernels.agents.connection import NotTheAgentError, open_streams
from enterprise_gateway.services.processproxies.contract import AgentEndpoint

CONNECT_SECONDS = 5.0
MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 1024 * 1024
MAX_LINE_BYTES = 512 * 1024
READ_BYTES = 64 * 1024
_PIECES_PER_YIELD = 32
"""How many are handled before this task yields to others."""


class OutOfContractError(Exception):
    """An agent's answer breaks the contract."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an answer may come. Pieces are reads, chunks and lines."""

    burst_pieces: float
    pieces_per_second: float
    burst_bytes: float = math.inf
    bytes_per_second: float = math.inf


DOCUMENTS = Pace(2000, 200, 4 * 1024 * 1024, 2 * 1024 * 1024)
"""At once: the backlog of a gateway that was stopped for 30 s. The contract allows 60 pieces a
second: a line in 50 ms, with the chunk and the read that it arrives in."""
OUTPUT = Pace(5000, 5000)
"""As many bytes as the client takes, which is 160 MB a second in pieces of 32 KiB."""


class RateLimit:
    """Limits how much may arrive: a token bucket for pieces, and one for bytes.

    Args:
        pace: the limits.
        clock: seconds that never go back.
    """

    def __init__(self, pace: Pace = DOCUMENTS, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = pace
        self._clock = clock
        self._then = clock()
        self._pieces = pace.burst_pieces
        self._bytes = pace.burst_bytes

    def spend(self, *, pieces: float = 0, size: float = 0) -> None:
        """Count pieces and bytes that have arrived.

        Raises:
            OutOfContractError: they exceed the limit.
        """
        now = self._clock()
        passed, self._then = now - self._then, now
        pace = self._pace
        earned = passed * pace.pieces_per_second
        self._pieces = min(pace.burst_pieces, self._pieces + earned) - pieces
        if pace.burst_bytes < math.inf:
            earned = passed * pace.bytes_per_second
            self._bytes = min(pace.burst_bytes, self._bytes + earned) - size
        if self._pieces < 0:
            raise OutOfContractError("it sends too fast")
        if self._bytes < 0:
            raise OutOfContractError("it sends too much")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an agent."""

    method: str
    path: str
    token: str = field(repr=False)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, connection: h11.Connection) -> bytes:
        """Return the bytes of the request."""
        headers = [
            ("Host", "agent"),
            ("Authorization", f"Bearer {self.token}"),
            ("Connection", "close"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(self.body))),
            *self.headers.items(),
        ]
        events = (
            h11.Request(method=self.method, target=self.path, headers=headers),
            h11.Data(data=self.body),
            h11.EndOfMessage(),
        )
        return b"".join(connection.send(event) or b"" for event in events)


class Answer:
    """The answer to a request, read piece by piece.

    Attributes:
        status: its status code.
        content_type: the type of its body, "" if it names none.
    """

    status = 0
    content_type = ""

    def __init__(
        self, connection: h11.Connection, reader: asyncio.StreamReader, pace: Pace
    ) -> None:
        self._h11 = connection
        self._reader = reader
        self._limit = RateLimit(pace)
        self._rest = bytearray()
        self._since_yield = 0

    async def read_head(self) -> None:
        """Read up to the body.

        Raises:
            OutOfContractError: it is not HTTP, or not the head of a final answer.
            ConnectionError: the connection ended.
        """
        head = await self._next()
        if not isinstance(head, h11.Response):
            raise OutOfContractError("it sends no final answer")
        self.status = head.status_code
        self.content_type = dict(head.headers).get(b"content-type", b"").decode("latin-1")

    async def read(self) -> bytes:
        """Return the body.

        Raises:
            OutOfContractError: it is too large, too fast, or malformed.
            ConnectionError: the connection ended before the body did.
        """
        body = bytearray()
        while data := await self.next_data():
            body += data
            if len(body) > MAX_BODY_BYTES:
                raise OutOfContractError(f"its answer exceeds {MAX_BODY_BYTES} bytes")
        return bytes(body)

    async def next_line(self, silence: float) -> bytes | None:
        """Return the next line of the body without its line end, None if there are no more.

        Args:
            silence: how many seconds the line may take.

        Raises:
            OutOfContractError, ConnectionError: as `read`.
            TimeoutError: it takes longer.
        """
        searched = 0
        async with asyncio.timeout(silence):
            while (end := self._rest.find(b"\n", searched)) < 0:
                searched = len(self._rest)
                if searched > MAX_LINE_BYTES:
                    raise OutOfContractError(f"its line exceeds {MAX_LINE_BYTES} bytes")
                data = await self.next_data()
                if not data:
                    return None
                self._rest += data
            await self._count()
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    async def next_data(self) -> bytes:
        """Return the next piece of the body, b"" at its end.

        Raises:
            OutOfContractError, ConnectionError: as `read`.
        """
        while isinstance(event := await self._next(), h11.Data):
            if event.data:
                return bytes(event.data)
        return b""

    async def _next(self) -> object:
        """Return the next h11 event."""
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                data = await self._reader.read(READ_BYTES)
                if not data:
                    raise ConnectionResetError("the connection ended before the answer")
                self._limit.spend(size=len(data))
                await self._count()
                self._h11.receive_data(data)
        except h11.RemoteProtocolError as exc:
            raise OutOfContractError(f"its answer is not HTTP ({str(exc)[:100]})") from exc
        await self._count()
        return event

    async def _count(self) -> None:
        """Count one piece, and yield to other tasks now and then."""
        self._limit.spend(pieces=1)
        self._since_yield = (self._since_yield + 1) % _PIECES_PER_YIELD
        if not self._since_yield:
            await asyncio.sleep(0)


@asynccontextmanager
async def exchange(
    endpoint: AgentEndpoint,
    request: Request,
    end: asyncio.Future[None],
    pace: Pace = DOCUMENTS,
) -> AsyncIterator[Answer]:
    """Make a request on a connection of its own, which is cut at the end of the context.

    Args:
        endpoint: where the agent listens.
        request: what is asked of it.
        end: cuts the connection once it is done.
        pace: how fast the answer may come.

    Raises:
        OutOfContractError, ConnectionError: as `Answer.read_head`.
        OSError, TimeoutError: it cannot be reached.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await open_streams(endpoint, READ_BYTES)
    except NotTheAgentError as exc:
        raise OutOfContractError(str(exc)) from exc

    def cut(_: object = None) -> None:
        writer.transport.abort()

    end.add_done_callback(cut)
    try:
        keep_transport_alive(writer.transport)
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        writer.write(request.encode(connection))
        answer = Answer(connection, reader, pace)
        await answer.read_head()
        yield answer
    finally:
        end.remove_done_callback(cut)
        cut()
