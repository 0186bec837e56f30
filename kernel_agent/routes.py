"""What the agent answers: docs/agent-interface.md, section 3."""

from __future__ import annotations

import asyncio
from typing import AsyncGenerator, Awaitable, Callable, Dict, Tuple

from kernel_agent.culling import Culler
from kernel_agent.handshake import Handshake, HandshakeError, agree
from kernel_agent.http import Answer, HttpError, Request, Response, Stream, Upgrade, json_response
from kernel_agent.process import LOG_TAIL_BYTES, OutputTail
from kernel_agent.settings import SettingsError, read_signal
from kernel_agent.state import State
from kernel_agent.supervisor import KernelDeadError, KernelSupervisor

HEARTBEAT = 15.0
"""Seconds of silence in the event stream that an empty line ends."""

OpenChannels = Callable[[asyncio.Transport, bytes, Handshake, str], None]


class Routes:
    """Answers requests about one kernel.

    Attributes:
        was_asked: whether any authenticated request arrived: somebody knows the kernel.
    """

    def __init__(
        self,
        supervisor: KernelSupervisor,
        state: State,
        log: OutputTail,
        culler: Culler,
        open_channels: OpenChannels,
    ) -> None:
        self._supervisor = supervisor
        self._state = state
        self._log = log
        self._culler = culler
        self._open_channels = open_channels
        self.was_asked = False
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
            raise HttpError(405, f"{request.method} is not possible here")
        raise HttpError(404, "there is nothing here")

    async def _channels(self, request: Request) -> Answer:
        try:
            handshake = agree(request.headers)
        except HandshakeError as exc:
            raise HttpError(400, str(exc)) from exc
        session_id = request.query.get("session_id", "")

        def take_over(transport: asyncio.Transport, early_data: bytes) -> None:
            self._open_channels(transport, early_data, handshake, session_id)

        return Upgrade(handshake.headers, take_over)

    async def _get_state(self, _request: Request) -> Answer:
        return json_response(self._state.document())

    async def _events(self, _request: Request) -> Answer:
        return Stream(self._event_lines(), "application/x-ndjson")

    async def _event_lines(self) -> AsyncGenerator[bytes, None]:
        changed = asyncio.Event()
        unsubscribe = self._state.subscribe(changed.set)
        changed.set()
        has_ended = False
        try:
            while not has_ended:
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT)
                except asyncio.TimeoutError:
                    yield b"\n"
                    continue
                changed.clear()
                # a slow reader may come back to an end that this line does not tell yet
                has_ended = self._state.has_ended
                yield self._state.line()
        finally:
            unsubscribe()

    async def _interrupt(self, _request: Request) -> Answer:
        try:
            await self._supervisor.interrupt()
        except KernelDeadError as exc:
            raise HttpError(409, str(exc)) from exc
        return Response(204)

    async def _restart(self, _request: Request) -> Answer:
        if not self._supervisor.lifecycle.can_start_again:
            raise HttpError(501, "the kernel is in another container: it has to be launched again")
        try:
            await self._supervisor.restart()
        except KernelDeadError as exc:
            raise HttpError(500, str(exc)) from exc
        return json_response(self._state.document())

    async def _shutdown(self, _request: Request) -> Answer:
        self._supervisor.end()
        await self._state.wait_for_end()
        return Response(204)

    async def _signal(self, request: Request) -> Answer:
        try:
            await self._supervisor.signal(read_signal(request.json_object().get("signum")))
        except SettingsError as exc:
            raise HttpError(400, "signum is no signal") from exc
        except KernelDeadError as exc:
            raise HttpError(409, str(exc)) from exc
        return Response(204)

    async def _get_log(self, request: Request) -> Answer:
        count = request.query.get("bytes", str(LOG_TAIL_BYTES))
        if not (count.isascii() and count.isdecimal() and len(count) < 10):
            raise HttpError(400, "bytes is not a number")
        text = self._log.read(min(int(count), LOG_TAIL_BYTES))
        return Response(200, text.encode(), "text/plain; charset=utf-8")

    async def _get_annotations(self, _request: Request) -> Answer:
        return json_response(self._state.annotations.describe())

    async def _put_annotations(self, request: Request) -> Answer:
        expected = request.headers.get("if-match")
        if expected is None:
            raise HttpError(428, "If-Match with the revision is missing")
        number = expected.strip().strip('"')
        revision = int(number) if number.isascii() and number.isdecimal() else -1
        if not self._state.annotations.replace(revision, request.json_object()):
            return json_response(self._state.annotations.describe(), 412)
        self._state.changed()
        return json_response(self._state.annotations.describe())

    async def _put_culling(self, request: Request) -> Answer:
        try:
            self._culler.change(request.json_object())
        except SettingsError as exc:
            raise HttpError(400, str(exc)) from exc
        return Response(204)
