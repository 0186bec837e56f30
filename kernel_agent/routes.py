"""What the agent answers: docs/agent-interface.md, section 3."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from typing import AsyncIterator, Awaitable, Callable, Dict, Tuple

from kernel_agent.codec import V1_SUBPROTOCOL, Codec
from kernel_agent.http import Answer, HttpError, Request, Response, Stream, Upgrade, json_response
from kernel_agent.process import LOG_TAIL_BYTES, OutputTail
from kernel_agent.settings import CullingSettings, SettingsError, change_culling, read_signal
from kernel_agent.state import State
from kernel_agent.supervisor import KernelDeadError, KernelSupervisor

HEARTBEAT = 15.0
"""Seconds of silence in the event stream that an empty line ends."""
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Take = Callable[[asyncio.Transport, bytes, Codec, bool, str], None]


class Routes:
    """Answers requests about one kernel."""

    def __init__(
        self,
        supervisor: KernelSupervisor,
        state: State,
        log: OutputTail,
        set_culling: Callable[[CullingSettings], None],
        culling: Callable[[], CullingSettings],
        ended: "asyncio.Future[None]",
        open_channels: Take,
    ) -> None:
        self._supervisor = supervisor
        self._state = state
        self._log = log
        self._set_culling = set_culling
        self._culling = culling
        self._ended = ended
        self._open_channels = open_channels
        self.was_asked = False
        """Whether any authenticated request arrived: somebody knows the kernel."""
        self._table: Dict[Tuple[str, str], Callable[[Request], Awaitable[Answer]]] = {
            ("GET", "/v1/channels"): self._channels,
            ("GET", "/v1/state"): self._get_state,
            ("GET", "/v1/events"): self._events,
            ("POST", "/v1/interrupt"): self._interrupt,
            ("POST", "/v1/restart"): self._restart,
            ("POST", "/v1/shutdown"): self._shutdown,
            ("POST", "/v1/signal"): self._signal,
            ("GET", "/v1/log"): self._get_log,
            ("GET", "/v1/annotations"): self._get_annotations,
            ("PUT", "/v1/annotations"): self._put_annotations,
            ("PUT", "/v1/culling"): self._put_culling,
        }

    async def handle(self, request: Request) -> Answer:
        """Answer an authenticated request."""
        self.was_asked = True
        handler = self._table.get((request.method, request.path))
        if handler is not None:
            return await handler(request)
        if any(path == request.path for _, path in self._table):
            raise HttpError(405, "Method Not Allowed", f"{request.method} is not possible here")
        raise HttpError(404, "Not Found", "there is nothing here")

    async def _channels(self, request: Request) -> Answer:
        headers = request.headers
        if headers.get("upgrade", "").lower() != "websocket":
            raise HttpError(426, "Upgrade Required", "this is a WebSocket")
        key = headers.get("sec-websocket-key", "")
        if headers.get("sec-websocket-version") != "13" or not _is_key(key):
            raise HttpError(400, "Bad Request", "malformed WebSocket handshake")
        offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
        accept = base64.b64encode(hashlib.sha1(key.encode() + WEBSOCKET_GUID).digest()).decode()  # noqa: S324  # RFC 6455 wants it
        reply = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept}
        is_tornado = headers.get("user-agent", "").startswith("Tornado/")
        if V1_SUBPROTOCOL in offered:
            codec = Codec.V1
            reply["Sec-WebSocket-Protocol"] = V1_SUBPROTOCOL
        else:
            codec = Codec.TEXT_ONLY if is_tornado else Codec.LEGACY
        session_id = request.query.get("session_id", "")

        def take_over(transport: asyncio.Transport, early_data: bytes) -> None:
            self._open_channels(transport, early_data, codec, is_tornado, session_id)

        return Upgrade(reply, take_over)

    async def _get_state(self, _request: Request) -> Answer:
        return json_response(self._state.document())

    async def _events(self, _request: Request) -> Answer:
        return Stream(self._event_lines(), "application/x-ndjson")

    async def _event_lines(self) -> AsyncIterator[bytes]:
        changed = asyncio.Event()
        unsubscribe = self._state.subscribe(changed.set)
        try:
            yield self._state.line()
            while not self._state.is_ended:
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT)
                except asyncio.TimeoutError:
                    yield b"\n"
                    continue
                changed.clear()
                yield self._state.line()
        finally:
            unsubscribe()

    async def _interrupt(self, _request: Request) -> Answer:
        try:
            self._supervisor.interrupt()
        except KernelDeadError as exc:
            raise HttpError(409, "Conflict", str(exc)) from exc
        return Response(204)

    async def _restart(self, _request: Request) -> Answer:
        try:
            await self._supervisor.restart()
        except KernelDeadError as exc:
            raise HttpError(500, "Internal Server Error", str(exc)) from exc
        return json_response(self._state.document())

    async def _shutdown(self, _request: Request) -> Answer:
        self._supervisor.end()
        await asyncio.shield(self._ended)
        return Response(204)

    async def _signal(self, request: Request) -> Answer:
        try:
            signum = read_signal(request.json_object().get("signum"))
            self._supervisor.signal(signum)
        except SettingsError as exc:
            raise HttpError(400, "Bad Request", "signum is no signal") from exc
        except KernelDeadError as exc:
            raise HttpError(409, "Conflict", str(exc)) from exc
        return Response(204)

    async def _get_log(self, request: Request) -> Answer:
        count = request.query.get("bytes", str(LOG_TAIL_BYTES))
        if not (count.isascii() and count.isdecimal() and len(count) < 10):
            raise HttpError(400, "Bad Request", "bytes is not a number")
        text = self._log.read(min(int(count), LOG_TAIL_BYTES))
        return Response(200, text.encode(), "text/plain; charset=utf-8")

    async def _get_annotations(self, _request: Request) -> Answer:
        return json_response(self._state.annotations.describe())

    async def _put_annotations(self, request: Request) -> Answer:
        expected = request.headers.get("if-match")
        if expected is None:
            raise HttpError(428, "Precondition Required", "If-Match with the revision is missing")
        number = expected.strip().strip('"')
        revision = int(number) if number.isascii() and number.isdecimal() else -1
        document = request.json_object()
        if not self._state.annotations.replace(revision, document):
            return json_response(self._state.annotations.describe(), 412)
        self._state.changed()
        return json_response(self._state.annotations.describe())

    async def _put_culling(self, request: Request) -> Answer:
        try:
            self._set_culling(change_culling(self._culling(), request.json_object()))
        except SettingsError as exc:
            raise HttpError(400, "Bad Request", str(exc)) from exc
        return Response(204)


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
