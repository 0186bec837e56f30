"""The stream of one execution: its records in the kernel's log, then those that come."""

from __future__ import annotations

import asyncio
from typing import Any, AsyncGenerator, Dict, Iterable, Iterator, List, Optional, Sequence

from kernel_agent.kernel.executions import Execution
from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.entries import Entry, Position
from kernel_agent.wire.message import IOPUB, Message, encode_json
from kernel_agent.wire.message_log import MessageLog
from kernel_agent.wire.records import RecordEncoder

KEEP_ALIVE_SECONDS = 10.0
"""Interval of the records that show, while the kernel is silent, that the stream is alive."""
READ_BYTES = 256 * 1024
"""How much is read from the log at once."""
NO_REACTION = (
    "The kernel was interrupted after the timeout, and has not reacted. Restart it if you want it "
    "to stop."
)
_PUBLIC_FIELDS = frozenset({"status", "execution_count", "ename", "evalue", "traceback"})
"""The content of an execute_reply that the execution's output contains, too."""
CHUNK_BYTES = 64 * 1024
"""How much is sent before a slow client is waited for."""


class ExecutionStream:
    """Yields the records of one execution to one client.

    A record's `n` is the number of the next entry of the log.
    """

    def __init__(
        self,
        execution: Execution,
        log: MessageLog,
        encoder: RecordEncoder,
        factory: MessageFactory,
        max_output_bytes: int,
        *,
        is_viewer: bool,
    ) -> None:
        """Prepare.

        Args:
            execution: the execution.
            log: where its messages are.
            encoder: makes the records.
            factory: makes the notices that replace messages.
            max_output_bytes: size of the largest record of a message; 0: any.
            is_viewer: whether the client may only read: it gets no prompts, and of the reply only
                what the output says, too.
        """
        self._execution = execution
        self._log = log
        self._encoder = encoder
        self._factory = factory
        self._max_output_bytes = max_output_bytes
        self._is_viewer = is_viewer
        self._position = execution.begin.number
        self._passed: Optional[Position] = execution.begin
        """Where the last entry ended that was read; None if that is not known."""
        self._changed = asyncio.Event()
        self._held: Optional[Entry] = None
        self._revoked = ""
        """Why the client gets no more; "" if it does."""
        self._parent = b""
        self._is_own = False

    def revoke(self, reason: str) -> None:
        """End the stream, whatever there is to send: the client may not have it any more."""
        self._revoked = reason
        self._changed.set()

    def skip_to(self, position: int) -> None:
        """Begin at a later position, if the log has come so far."""
        if position <= self._position:
            return
        self._position = min(position, self._log.end)
        before = self._log.read(self._position - 1, 1)
        is_there = before and before[0].number == self._position - 1
        self._passed = before[0].next_position if is_there else None

    @property
    def is_over(self) -> bool:
        """Whether the client has had everything."""
        return self._has_ended and self._position >= self._execution.end.number

    @property
    def _has_ended(self) -> bool:
        return self._execution.has_ended or self._execution.is_given_up

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the records; the last is the reply, or says why there is none."""
        execution, encoder = self._execution, self._encoder
        changed = self._changed
        unsubscribe = execution.subscribe(self._follow)
        is_over = self.is_over
        try:
            yield encoder.encode(self._position, "execution", describe(execution, self._log))
            while not (is_over or self._revoked):
                changed.clear()
                is_over = self._has_ended
                if self._position < execution.begin.number:  # it was queued until now
                    self._position, self._passed = execution.begin.number, execution.begin
                while self._position < execution.end.number and not self._revoked:
                    for chunk in _in_chunks(self._records(self._read())):
                        yield chunk
                    await asyncio.sleep(0)  # there may be many messages of other executions
                if is_over and not self._revoked:
                    for chunk in _in_chunks(self._reply()):
                        yield chunk
                elif not changed.is_set():
                    try:
                        await asyncio.wait_for(changed.wait(), KEEP_ALIVE_SECONDS)
                    except asyncio.TimeoutError:
                        yield encoder.keep_alive(self._position)
            if self._revoked:
                yield encoder.encode(self._position, "revoked", {"message": self._revoked})
        finally:
            unsubscribe()

    def _follow(self, entry: Optional[Entry]) -> None:
        """Take note of a new entry, and hold one that the log may drop before it can be read."""
        self._changed.set()
        if entry is not None and entry.number == self._position and entry.message.size > READ_BYTES:
            self._held = entry

    def _read(self) -> Sequence[Entry]:
        held, self._held = self._held, None
        if held is not None and held.number == self._position:
            return [held]
        return self._log.read(self._position, READ_BYTES)

    def _records(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Yield the pieces of the records of some entries, without the reply and `idle`.

        The reply is sent when nothing can come any more, which `idle` says; the kernel sends output
        and reply on two sockets, of which one may be faster.
        """
        execution = self._execution
        end = execution.end
        for entry in entries:
            number, message = entry.number, entry.message
            if number >= end.number:
                break
            yield from self._loss(entry.position)
            self._position = number + 1
            self._passed = entry.next_position
            is_held = number == execution.reply or _is_idle(message)
            is_hidden = self._is_viewer and message.channel != IOPUB
            if self._belongs(message) and not is_held and not is_hidden:
                yield from self._encode(number + 1, message)
        else:
            if entries:
                return
        yield from self._loss(end)
        self._position = end.number
        self._passed = end

    def _loss(self, position: Position) -> Iterable[bytes]:
        """Return a record of the output that is gone before a position, if there is any."""
        missing = position.number - self._position
        if not missing:
            return ()
        if self._passed is None:  # what was before `n` is gone, too
            loss = {"messages": missing, "bytes": None}
        else:
            messages = position.outputs - self._passed.outputs
            size = position.output_bytes - self._passed.output_bytes
            loss = {"messages": messages, "bytes": size}
        return (self._encoder.encode(position.number, "lost", loss),) if loss["messages"] else ()

    def _reply(self) -> Iterator[bytes]:
        execution = self._execution
        if execution.reply is None:
            if execution.is_given_up:
                yield self._encoder.encode(self._position, "timeout", {"message": NO_REACTION})
            return
        for entry in self._log.read(execution.reply, 1)[:1]:
            if entry.number == execution.reply:
                reply = _reply_for_viewer(entry.message) if self._is_viewer else entry.message
                yield from self._encode(execution.end.number, reply)

    def _belongs(self, message: Message) -> bool:
        parent = message.parts[1]
        if parent != self._parent:
            self._parent = parent
            execution = self._execution
            is_same = message.parent_id == execution.msg_id
            self._is_own = is_same and message.parent_session == execution.session
        return self._is_own

    def _encode(self, position: int, message: Message) -> Iterable[bytes]:
        limit = self._max_output_bytes
        if self._execution.is_timed_out:
            message = explain_timeout(message, self._execution.timeout or 0)
        pieces = self._encoder.encode_message(position, message)
        size = sum(map(len, pieces))
        if limit and size > limit:
            notice = self._factory.not_allowed(message, size, limit)
            return self._encoder.encode_message(position, notice)
        return pieces


def describe(execution: Execution, log: MessageLog) -> Dict[str, Any]:
    """Return what the HTTP interface shows of an execution."""
    return execution.describe(log.lost_between(execution.begin, execution.end))


def explain_timeout(message: Message, seconds: float) -> Message:
    """Return a message with the reason for its error, if it is the error of an interrupt."""
    if message.msg_type not in ("error", "execute_reply"):
        return message
    content = message.content()
    if content.get("status", "error") != "error":
        return message
    reason = f"interrupted, since it ran for longer than its timeout of {seconds:g} s"
    said = content.get("evalue")
    content["evalue"] = f"{said} ({reason})" if said else reason
    lines = content.get("traceback")
    if isinstance(lines, list):
        content["traceback"] = [*lines, reason]
    return Message(message.channel, [*message.parts[:3], encode_json(content)])


def _reply_for_viewer(reply: Message) -> Message:
    """Return a reply without results of expressions, payloads and metadata."""
    content = {key: value for key, value in reply.content().items() if key in _PUBLIC_FIELDS}
    return Message(reply.channel, [*reply.parts[:2], b"{}", encode_json(content)])


def _is_idle(message: Message) -> bool:
    is_status = message.channel == IOPUB and message.is_status
    return is_status and message.content().get("execution_state") == "idle"


def _in_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces, and divide large ones, so that chunks have about `CHUNK_BYTES`."""
    gathered: List[bytes] = []
    size = 0
    for piece in pieces:
        if len(piece) > CHUNK_BYTES:
            if gathered:
                yield b"".join(gathered)
                gathered, size = [], 0
            for start in range(0, len(piece), CHUNK_BYTES):
                yield piece[start : start + CHUNK_BYTES]
            continue
        gathered.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)
