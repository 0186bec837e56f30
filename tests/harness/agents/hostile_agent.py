"""A process that plays the agent of a kernel and breaks the wire contract in one way.

`python -m harness.agents.hostile_agent SOCKET KERNEL_ID WAY CANARY`: `CANARY` is the URL of a
server that only a client that follows redirects asks. All requests but those that the way is about
are answered as the contract says.
"""

import asyncio
import contextlib
import functools
import gzip
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

EVENTS, STATE = "GET /v1/events", "GET /v1/state"
INTERRUPT, RESTART = "POST /v1/interrupt", "POST /v1/restart"
SHUTDOWN, WRITE = "POST /v1/shutdown", "PUT /v1/annotations"
EXECUTE = "POST /v1/execute"
ALL = frozenset({EVENTS, STATE, INTERRUPT, RESTART, SHUTDOWN, WRITE, EXECUTE})
DOCUMENTS = frozenset({EVENTS, STATE, RESTART})
NESTED = b"[" * 100_000
DRIP_SECONDS = 0.2


class Victim(NamedTuple):
    """The target of an attack."""

    kernel_id: str
    canary: str

    def state(self, **changes: Any) -> bytes:
        """Return a state document."""
        document = {
            "version": 1,
            "kernel_id": self.kernel_id,
            "kernel_name": "python3",
            "username": "thief",
            "execution_state": "idle",
            "last_activity": "2026-01-02T03:04:05.678901Z",
            "connections": 0,
            "reason": None,
            "annotations": {"revision": 0, "document": {}},
        }
        return json.dumps({**document, **changes}).encode()


Bytes = Iterable[bytes]


class Way(NamedTuple):
    """One way to break the contract."""

    where: frozenset[str]
    """The requests that are answered so."""
    answer: Callable[[Victim], Bytes]
    """Makes the bytes of the answer, which may have no end."""
    is_slow: bool = False
    """Whether each piece comes a while after the one before."""


def chunk(data: bytes) -> bytes:
    """Return data as a chunk, RFC 9112 section 7.1."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def head(status: int = 200, *fields: str) -> bytes:
    """Return the head of an answer."""
    return "\r\n".join((f"HTTP/1.1 {status} Anything", *fields, "", "")).encode()


def whole(body: bytes, status: int = 200, *fields: str) -> list[bytes]:
    """Return a complete answer."""
    return [head(status, f"Content-Length: {len(body)}", *fields), body]


def endless(first: bytes, again: bytes) -> Iterator[bytes]:
    """Begin with one thing, and repeat another for ever."""
    return itertools.chain([first], itertools.repeat(again))


def stream(again: bytes) -> Callable[[Victim], Bytes]:
    """Return what makes an event stream that repeats something for ever."""
    return lambda _: endless(head(200, "Transfer-Encoding: chunked"), again)


def output(again: bytes, content_type: str = "application/x-ndjson") -> Way:
    """Return a way to stream something for ever as an execution."""
    fields = ("Transfer-Encoding: chunked", f"Content-Type: {content_type}", "Set-Cookie: a=b")
    return Way(frozenset({EXECUTE}), lambda _: endless(head(200, *fields), again))


def says(where: frozenset[str] = DOCUMENTS, **changes: Any) -> Way:
    """Return a way to say something wrong in the state document."""
    return Way(where, lambda victim: whole(victim.state(**changes) + b"\n"))


def sends(body: bytes, where: frozenset[str] = DOCUMENTS) -> Way:
    """Return a way to send something that is no document."""
    return Way(where, lambda _: whole(body + b"\n"))


def redirects(status: int) -> Way:
    """Return a way to send the gateway somewhere else."""
    return Way(ALL, lambda victim: whole(b"", status, f"Location: {victim.canary}"))


def annotated(document: str) -> Way:
    """Return a way to have annotations."""
    annotations = f'{{"revision": 1, "document": {document}}}'

    def answer(victim: Victim) -> Bytes:
        state = victim.state(annotations=None).replace(
            b'"annotations": null', f'"annotations": {annotations}'.encode()
        )
        return whole(state + b"\n")

    return Way(DOCUMENTS, answer)


@functools.cache
def bomb() -> Bytes:
    """Return a small answer that is a gibibyte, decompressed."""
    body = gzip.compress(bytes(1 << 28), 1)
    return whole(body, 200, "Content-Encoding: gzip")


def floods() -> dict[str, Way]:
    """Return the ways to send without an end."""
    one = frozenset({EVENTS})
    body = stream(chunk(b"x" * 65_000))
    continues = b"HTTP/1.1 100 Continue\r\n\r\n"
    failure = head(500, "Transfer-Encoding: chunked")
    return {
        "empty lines": Way(one, stream(chunk(b"\n" * 65_000))),
        "empty lines one by one": Way(one, stream(chunk(b"\n") * 5000)),
        "lines": Way(
            one,
            lambda victim: stream(chunk(victim.state() + b"\n") * 100)(victim),
        ),
        "one line": Way(one, body),
        "output byte by byte": output(chunk(b"x") * 5000),
        "one line byte by byte": Way(one, stream(chunk(b"x") * 5000)),
        "100 Continue": Way(ALL, lambda _: itertools.repeat(continues * 1000)),
        "fields": Way(ALL, lambda _: endless(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 1000)),
        "chunk extension": Way(ALL, lambda _: endless(head(200) + b"1;a=", b"x" * 65_000)),
        "body": Way(ALL - one, body),
        "body of a failure": Way(ALL, lambda _: endless(failure, chunk(b"x" * 65_000))),
        "body until the end": Way(ALL, lambda _: endless(head(200), b"x" * 65_000)),
    }


def documents() -> dict[str, Way]:
    """Return the ways to say what cannot be."""
    return {
        "deep JSON": sends(NESTED),
        "deep annotations": annotated('{"sessions": ' + NESTED.decode() + "}"),
        "list": sends(b"[1, 2]"),
        "no UTF-8": sends(b"\xff\xfe"),
        "NaN": says(connections=float("nan")),
        "5000 digits": sends(b'{"connections": ' + b"9" * 5000 + b"}"),
        "10**18 connections": says(connections=10**18),
        "-1 connections": says(connections=-1),
        "state of its own": says(execution_state="<b>owned</b>\x1b[31m"),
        "time ~~~": says(last_activity="~~~"),
        "month 13": says(last_activity="2026-13-01T00:00:00.000000Z"),
        "numbers for texts": says(execution_state=1, last_activity=2, kernel_name=3),
        "another kernel": says(kernel_id="00000000-0000-4000-8000-000000000000"),
        "annotations that are a list": says(annotations=[]),
        "a long name": says(kernel_name="x" * 100_000),
        "a reason of numbers": says(execution_state="dead", reason={"message": 5}),
    }


def tolerated() -> dict[str, Way]:
    """Return the lies that cost other users nothing: the kernel is served."""
    cut = head(200, "Transfer-Encoding: chunked", "Content-Type: application/x-ndjson")
    return {
        "output without an end": output(chunk(b"x" * 65_000)),
        "output that is a page": output(chunk(b"<script>"), "text/html"),
        "output that is cut": Way(frozenset({EXECUTE}), lambda _: [cut + chunk(b"{") + b"5\r\n"]),
        "year 9999": says(last_activity="9999-12-31T23:59:59.999999Z"),
        "sessions 5": annotated('{"sessions": 5}'),
        "sessions of numbers": annotated('{"sessions": [{"id": 1, "path": []}]}'),
        "session of the victim": annotated(
            '{"sessions": [{"id": "thief", "path": "/home/victim/a.ipynb", "type": "notebook"}]}'
        ),
        "claim of the victim's path": annotated(
            '{"sessions": [{"id": "thief", "path": "/home/victim/b.ipynb", "type": "notebook", '
            '"claimed": 9999999999}]}'
        ),
    }


LONG = head(200, "Content-Length: 500")
BROKEN = {
    **floods(),
    **documents(),
    **{f"redirect {status}": redirects(status) for status in (301, 302, 303, 307, 308)},
    "gzip": Way(DOCUMENTS, lambda _: bomb()),
    "malformed head": Way(ALL, lambda _: [b"HTTP/1.1 two hundred\r\n\r\n"]),
    "101": Way(ALL, lambda _: [head(101, "Upgrade: x", "Connection: Upgrade")]),
    "both lengths": Way(
        ALL, lambda _: [head(200, "Content-Length: 5", "Content-Length: 6"), b"hello!"]
    ),
    "negative length": Way(ALL, lambda _: [head(200, "Content-Length: -5"), b"hello"]),
}
SILENT = {
    "HTTP/0.9": Way(ALL, lambda _: [b"hello\r\n"]),
    "nothing": Way(ALL, lambda _: itertools.repeat(b""), is_slow=True),
    "dripping head": Way(ALL, lambda _: endless(b"HTTP/1.1 200 OK\r\nA: ", b"b"), is_slow=True),
    "dripping body": Way(ALL, lambda _: endless(LONG, b" "), is_slow=True),
    "cut body": Way(ALL, lambda _: [LONG, b"{"]),
}
TOLERATED = tolerated()
WAYS = {
    "honest": Way(frozenset(), lambda _: []),
    **BROKEN,
    **SILENT,
    **TOLERATED,
}


class HostileAgent:
    """Serves one kernel."""

    def __init__(self, victim: Victim, way: Way) -> None:
        self._victim = victim
        self._way = way
        self._annotations: dict[str, Any] = {"revision": 0, "document": {}}
        way.answer(victim)  # what takes long to make is made before the first request

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            request = lines[0].rpartition(" ")[0]
            if request in self._way.where:
                for piece in self._way.answer(self._victim):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(DRIP_SECONDS if self._way.is_slow else 0)
            else:
                await self._answer(request, body, writer)
        writer.close()

    async def _answer(self, request: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        state = self._victim.state(annotations=self._annotations)
        if request == WRITE:
            document, revision = json.loads(body), self._annotations["revision"] + 1
            self._annotations = {"revision": revision, "document": document}
            writer.writelines(whole(json.dumps(self._annotations).encode()))
        elif request in {STATE, RESTART}:
            writer.writelines(whole(state))
        elif request == EVENTS:
            writer.write(head(200, "Transfer-Encoding: chunked") + chunk(state + b"\n"))
            await asyncio.Event().wait()
        else:
            writer.write(head(204))
        await writer.drain()


async def main(socket_path: str, kernel_id: str, way: str, canary: str) -> None:
    """Serve until killed."""
    agent = HostileAgent(Victim(kernel_id, canary), WAYS[way])
    server = await asyncio.start_unix_server(agent.serve, socket_path)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
