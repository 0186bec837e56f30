"""The routes of the agent's HTTP interface: docs/agent-interface.md, section 3."""

from __future__ import annotations

import asyncio
from typing import AsyncGenerator, Awaitable, Callable, Dict, NamedTuple, Tuple

from kernel_agent.kernel.culler import Culler
from kernel_agent.kernel.lifecycle import BY_GATEWAY, EndedBy, KernelDeadError, Phase
from kernel_agent.kernel.supervisor import KernelSupervisor
from kernel_agent.process.child import LOG_TAIL_BYTES, OutputTail
from kernel_agent.server import executions
from kernel_agent.server.access import Access, Client, read_client, read_credentials
from kernel_agent.server.http import (
    Answer,
    HttpError,
    Request,
    Response,
    Stream,
    Upgrade,
    json_response,
)
from kernel_agent.server.pool import NotPooledError, Pool, Takeover
from kernel_agent.server.state import State
from kernel_agent.settings import SettingsError, read_signal
from kernel_agent.wire.handshake import Handshake, HandshakeError, negotiate

HEARTBEAT_SECONDS = 15.0
"""Interval of empty lines in a silent event stream."""

REPLAY_MAX_CHARS = 1024
"""Length of the parameter `replay`."""

SHARED_CHANNELS = "/v1/shared/channels"


class Opening(NamedTuple):
    """A WebSocket that a client asks for."""

    handshake: Handshake
    session_id: str
    replay: str
    client: Client
    may_write: bool


OpenChannels = Callable[[asyncio.Transport, bytes, Opening], None]
"""Opens a WebSocket on a transport, with the bytes that followed the request."""


class Routes:
    """Handles requests about one kernel."""

    def __init__(
        self,
        supervisor: KernelSupervisor,
        state: State,
        log: OutputTail,
        culler: Culler,
        pool: Pool,
        access: Access,
        open_channels: OpenChannels,
        execution_routes: executions.ExecutionRoutes,
    ) -> None:
        self._supervisor = supervisor
        self._state = state
        self._log = log
        self._culler = culler
        self._pool = pool
        self._access = access
        self._open_channels = open_channels
        self._executions = execution_routes
        self._table: Dict[Tuple[str, str], Callable[[Request], Awaitable[Answer]]] = {
            ("GET", "/v1/channels"): self._channels,
            ("GET", SHARED_CHANNELS): self._channels,
            ("POST", "/v1/revoke"): self._revoke,
            ("GET", "/v1/state"): self._get_state,
            ("GET", "/v1/events"): self._events,
            ("POST", "/v1/claim"): self._claim,
            ("POST", "/v1/take"): self._take,
            ("GET", "/v1/taken"): self._get_taken,
            ("POST", "/v1/execute"): self._execute,
            ("GET", "/v1/executions"): self._list_executions,
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
        handler = self._table.get((request.method, request.path))
        if handler is not None:
            return await handler(request)
        if request.path.startswith(executions.PREFIX):
            return await self._handle_execution(request)
        if any(path == request.path for _, path in self._table):
            raise HttpError(405, f"{request.method} is not allowed for {request.path}")
        raise HttpError(404, f"there is no resource {request.path}")

    async def _execute(self, request: Request) -> Answer:
        self._state.claim()
        return await self._executions.execute(request)

    async def _list_executions(self, request: Request) -> Answer:
        return await self._executions.list_all(request)

    async def _handle_execution(self, request: Request) -> Answer:
        is_input = request.path.endswith(executions.INPUT_SUFFIX)
        if request.method != ("POST" if is_input else "GET"):
            raise HttpError(405, f"{request.method} is not allowed for {request.path}")
        handle = self._executions.answer if is_input else self._executions.follow
        return await handle(request)

    async def _channels(self, request: Request) -> Answer:
        session_id = request.query.get("session_id", "")
        replay = request.query.get("replay", "")
        if len(replay) > REPLAY_MAX_CHARS:
            raise HttpError(400, f"replay has more than {REPLAY_MAX_CHARS} characters")
        client = read_client(request.query)
        if request.path == SHARED_CHANNELS and not client.grant:
            raise HttpError(400, "grant is missing")
        try:
            handshake = negotiate(request.headers, session_id)
        except HandshakeError as exc:
            raise HttpError(400, str(exc)) from exc
        may_write = self._access.admit(client)
        opening = Opening(handshake, session_id, replay, client, may_write)

        def take_over(transport: asyncio.Transport, early_data: bytes) -> None:
            self._state.claim()
            self._open_channels(transport, early_data, opening)

        return Upgrade(handshake.headers, take_over)

    async def _revoke(self, request: Request) -> Answer:
        self._access.revoke(read_credentials(request.json_object()))
        return Response(204)

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
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
                except asyncio.TimeoutError:
                    yield b"\n"
                    continue
                changed.clear()
                # the kernel may end while a slow reader takes this line
                has_ended = self._state.has_ended
                yield self._state.line()
        finally:
            unsubscribe()

    async def _claim(self, request: Request) -> Answer:
        start = request.json_object().get("start")
        if isinstance(start, dict) and not self._supervisor.lifecycle.restarts:
            self._supervisor.start = start
        self._state.claim()
        return Response(204)

    async def _take(self, request: Request) -> Answer:
        try:
            await self._pool.take(Takeover(request.json_object()))
        except SettingsError as exc:
            raise HttpError(400, str(exc)) from exc
        except NotPooledError as exc:
            raise HttpError(409, str(exc)) from exc
        except KernelDeadError as exc:
            raise HttpError(500, str(exc)) from exc
        return json_response(self._state.document())

    async def _get_taken(self, _request: Request) -> Answer:
        taken = self._pool.taken
        env = taken.env if taken is not None else {}
        return json_response({"is_taken": taken is not None, "env": env})

    async def _interrupt(self, _request: Request) -> Answer:
        self._state.claim()
        try:
            await self._supervisor.interrupt()
        except KernelDeadError as exc:
            raise HttpError(409, str(exc)) from exc
        return Response(204)

    async def _restart(self, _request: Request) -> Answer:
        self._state.claim()
        if not self._supervisor.lifecycle.can_start_again:
            raise HttpError(501, "the kernel is in another container: launch it again")
        try:
            await self._supervisor.restart(BY_GATEWAY)
        except KernelDeadError as exc:
            if self._supervisor.lifecycle.phase is Phase.TERMINATING:
                raise HttpError(409, "the kernel is terminating") from exc
            raise HttpError(500, str(exc)) from exc
        return json_response(self._state.document())

    async def _shutdown(self, request: Request) -> Answer:
        if request.json_object().get("only_pooled") is True and not self._pool.is_waiting:
            raise HttpError(409, "the kernel is in no pool")
        self._supervisor.end(BY_GATEWAY, EndedBy.GATEWAY)
        # A gateway that learns of the end kills the agent, perhaps before it has told the others.
        self._state.tell_at_once()
        await self._state.wait_for_end()
        await self._executions.finish()
        return Response(204)

    async def _signal(self, request: Request) -> Answer:
        try:
            await self._supervisor.signal(read_signal(request.json_object().get("signum")))
        except SettingsError as exc:
            raise HttpError(400, "signum is not a signal") from exc
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
        self._access.replace_grants(self._state.annotations.document)
        self._state.mark_changed()
        return json_response(self._state.annotations.describe())

    async def _put_culling(self, request: Request) -> Answer:
        try:
            self._culler.change(request.json_object())
        except SettingsError as exc:
            raise HttpError(400, str(exc)) from exc
        return Response(204)
