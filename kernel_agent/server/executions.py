"""Executions over HTTP: docs/agent-interface.md, section 3."""

from __future__ import annotations

import asyncio
import contextlib
from typing import AsyncGenerator, Callable, Optional, Tuple, Union
from urllib.parse import unquote

from kernel_agent.kernel.executions import MAX_EXECUTIONS, Execution, Executions
from kernel_agent.server.access import Access, Client, read_client
from kernel_agent.server.execute_body import (
    BodyError,
    parse_execute,
    parse_input,
    parse_key,
    parse_position,
)
from kernel_agent.server.execution_stream import ExecutionStream, describe
from kernel_agent.server.executor import Executor
from kernel_agent.server.http import HttpError, Request, Response, Stream, json_response
from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.message_log import MessageLog
from kernel_agent.wire.records import EVENT_STREAM, NDJSON, RecordEncoder, choose_type

PREFIX = "/v1/executions/"
INPUT_SUFFIX = "/input"
LAST_RECORDS_SECONDS = 1.0
"""How long the kernel's end waits for clients to be sent the end of their streams."""


class ExecutionRoutes:
    """Handles the requests about executions.

    Attributes:
        streams: how many streams are open.
    """

    def __init__(
        self,
        executor: Executor,
        executions: Executions,
        log: MessageLog,
        factory: MessageFactory,
        access: Access,
        max_output_bytes: int,
        changed: Callable[[], None],
    ) -> None:
        """Serve none yet.

        Args:
            executor: begins executions.
            executions: those that are remembered.
            log: has what the kernel says.
            factory: makes messages in its place.
            access: decides who may do what.
            max_output_bytes: size of the largest record of a message; 0: any.
            changed: called when `streams` has changed.
        """
        self._access = access
        self._executor = executor
        self._executions = executions
        self._log = log
        self._factory = factory
        self._max_output_bytes = max_output_bytes
        self._changed = changed
        self.streams = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def execute(self, request: Request) -> Stream:
        """Begin an execution, or find the one of its idempotency key, and stream it.

        It goes on if its client may not have the stream any more.
        """
        client, _ = self._admit(request, to_write=True)
        content_type = _negotiate(request)
        key = request.headers.get("idempotency-key")
        try:
            body = parse_execute(request.json_object())
            execution = self._executor.begin(body, "" if key is None else parse_key(key))
        except BodyError as exc:
            raise HttpError(400, str(exc)) from exc
        stream = self._stream(execution, content_type, client, is_viewer=False)
        return Stream(self._count(stream), content_type)

    async def list_all(self, request: Request) -> Response:
        """List what is remembered, the oldest first."""
        self._admit(request)
        return json_response([describe(each, self._log) for each in self._executions.all()])

    async def follow(self, request: Request) -> Union[Stream, Response]:
        """Stream an execution from a record on."""
        client, may_write = self._admit(request)
        execution = self._find(request.path[len(PREFIX) :])
        content_type = _negotiate(request)
        stream = self._stream(execution, content_type, client, is_viewer=not may_write)
        last_event = request.headers.get("last-event-id")
        # an EventSource comes back to the same URL
        after = request.query.get("after") if last_event is None else last_event
        try:
            stream.skip_to(parse_position(after) if after is not None else 0)
        except BodyError as exc:
            raise HttpError(400, str(exc)) from exc
        if stream.is_over and last_event is not None:
            return Response(204)  # a browser's EventSource would reconnect for ever
        return Stream(self._count(stream), content_type)

    async def answer(self, request: Request) -> Response:
        """Answer the prompt of an execution."""
        self._admit(request, to_write=True)
        execution = self._find(request.path[len(PREFIX) : -len(INPUT_SUFFIX)])
        try:
            self._executor.answer(execution, parse_input(request.json_object()))
        except BodyError as exc:
            raise HttpError(400, str(exc)) from exc
        return Response(204)

    async def finish(self) -> None:
        """Return when all streams have been sent, or a moment has passed.

        A gateway may kill the agent once it is told that the kernel has ended.
        """
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._is_idle.wait(), LAST_RECORDS_SECONDS)

    async def _count(self, stream: ExecutionStream) -> AsyncGenerator[bytes, None]:
        self.streams += 1
        self._is_idle.clear()
        self._changed()
        chunks = stream.chunks()
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()
            self.streams -= 1
            if not self.streams:
                self._is_idle.set()
            self._changed()

    def _admit(self, request: Request, *, to_write: bool = False) -> Tuple[Client, bool]:
        """Return the client of a request that it may make, and whether it may write.

        Raises:
            HttpError: it may not.
        """
        client = read_client(request.query)
        may_write = self._access.admit(client)
        if to_write and not may_write:
            raise HttpError(403, "the kernel is shared with you read-only")
        return client, may_write

    def _stream(
        self, execution: Execution, content_type: str, client: Client, *, is_viewer: bool
    ) -> ExecutionStream:
        stream = ExecutionStream(
            execution,
            self._log,
            RecordEncoder(content_type),
            self._factory,
            self._max_output_bytes,
            is_viewer=is_viewer,
        )
        self._access.watch(client, stream)
        return stream

    def _find(self, name: str) -> Execution:
        execution = self._executions.get(unquote(name))
        if execution is None:
            raise HttpError(
                404, f"the kernel knows no such execution; it remembers the last {MAX_EXECUTIONS}"
            )
        return execution


def _negotiate(request: Request) -> str:
    content_type: Optional[str] = choose_type(request.headers.get("accept", ""))
    if content_type is None:
        raise HttpError(406, f"the stream is {NDJSON} or {EVENT_STREAM}: accept one of them")
    return content_type
