"""The executions of a kernel, as its log shows them: their states, times and sizes. Pure.

An execution is one `execute_request`, whether it came by WebSocket or HTTP. It has ended when its
reply and the `idle` status for it are in the log; what comes later, such as the output of a thread
that the code has left behind, is not counted.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Any, Callable, Dict, List, Optional, Tuple

from kernel_agent.wire.entries import Entry, Position
from kernel_agent.wire.message import OVERHEAD_BYTES, SHELL, STDIN

MAX_EXECUTIONS = 1024
"""How many are remembered; the oldest that have ended are forgotten first."""
MAX_UNFINISHED = 256
"""How many of HTTP clients may be queued or running."""
MAX_ID_CHARS = 200
"""An execution with a longer id, or session, is not remembered."""


class ExecutionState(Enum):
    """How far an execution has come."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"
    """The kernel did not run it, because an earlier one failed (`stop_on_error`)."""


_STATE_OF_REPLY = {
    "error": ExecutionState.FAILED,
    "aborted": ExecutionState.ABORTED,
    "abort": ExecutionState.ABORTED,
}


Listener = Callable[[Optional[Entry]], None]
"""Is called with a new entry of an execution, or None if it is given up."""


class Execution:
    """One execution; only `Executions` changes it, but for `is_timed_out` and `give_up`.

    Attributes:
        msg_id: id of its request.
        session: `header.session` of its request.
        begin: where in the log its first entry is, or before which it cannot be.
        end: where it ends, behind its last entry; `begin` while it has none.
        fingerprint: what distinguishes its request from another one with the same idempotency key;
            "": it came by WebSocket.
        state: how far it has come.
        queued: when its request came.
        started: when the kernel began to run it.
        ended: when it ended.
        messages: number of its messages, but for statuses.
        size: their bytes.
        reply: number of its reply in the log.
        prompt: header of the `input_request` that waits for its answer.
        timeout: after how many seconds of running it is interrupted; None: never.
        is_timed_out: whether it was interrupted for that reason.
        is_given_up: whether its streams end without a reply, since the interrupt had no effect.
    """

    __slots__ = (
        "_awaits_idle",
        "_listeners",
        "begin",
        "end",
        "ended",
        "fingerprint",
        "is_given_up",
        "is_timed_out",
        "messages",
        "msg_id",
        "prompt",
        "queued",
        "reply",
        "session",
        "size",
        "started",
        "state",
        "timeout",
    )

    def __init__(self, msg_id: str, session: str, begin: Position, queued: str) -> None:
        self.msg_id = msg_id
        self.session = session
        self.begin = self.end = begin
        self.queued = queued
        self.state = ExecutionState.QUEUED
        self.fingerprint = ""
        self.timeout: Optional[float] = None
        self.is_timed_out = False
        self.is_given_up = False
        self.started: Optional[str] = None
        self.ended: Optional[str] = None
        self.messages = 0
        self.size = 0
        self.reply: Optional[int] = None
        self.prompt: Optional[bytes] = None
        self._awaits_idle = True
        self._listeners: List[Listener] = []

    @property
    def has_ended(self) -> bool:
        """Whether its reply and its `idle` are in the log."""
        return self.ended is not None

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after each of its entries; return a function that unsubscribes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def give_up(self) -> None:
        """End its streams, unless it has ended; the kernel goes on with it."""
        if not self.has_ended:
            self.is_given_up = True
            for listener in list(self._listeners):
                listener(None)

    def describe(self, lost: Tuple[int, int]) -> Dict[str, Any]:
        """Return what the HTTP interface shows of it.

        Args:
            lost: how many messages of it, and bytes, the log has dropped.
        """
        return {
            "msg_id": self.msg_id,
            "session": self.session,
            "state": self.state.value,
            "queued": self.queued,
            "started": self.started,
            "ended": self.ended,
            "messages": self.messages,
            "bytes": self.size,
            "lost": {"messages": lost[0], "bytes": lost[1]},
            "awaits_input": self.prompt is not None,
            "timed_out": self.is_timed_out,
        }

    def record(self, entry: Entry, clock: Callable[[], str]) -> None:
        """Record an entry that belongs to it."""
        if self.end is self.begin:
            self.begin = entry.position
        self.end = entry.next_position
        message = entry.message
        header = message.parts[0]
        if message.is_status:
            self._record_status(message.content().get("execution_state"), clock)
        else:
            self.messages += 1
            self.size += message.size - OVERHEAD_BYTES
            if message.channel == STDIN:
                self.prompt = header
            elif message.channel == SHELL:
                self._record_reply(entry.number, message.content().get("status"))
            elif self.state is ExecutionState.QUEUED and message.msg_type == "execute_input":
                self._start(clock)
        if self.reply is not None and not self._awaits_idle:
            self.ended = clock()
        for listener in list(self._listeners):
            listener(entry)

    def take_prompt(self) -> Optional[bytes]:
        """Return the header of the `input_request` that is answered now; None if none waits."""
        prompt, self.prompt = self.prompt, None
        return prompt

    def _record_status(self, state: object, clock: Callable[[], str]) -> None:
        if state == "busy" and self.state is ExecutionState.QUEUED:
            self._start(clock)
        elif state == "idle":
            self._awaits_idle = False

    def _record_reply(self, number: int, status: object) -> None:
        self.reply = number
        self.prompt = None
        self.state = _STATE_OF_REPLY.get(str(status), ExecutionState.DONE)

    def _start(self, clock: Callable[[], str]) -> None:
        self.state = ExecutionState.RUNNING
        self.started = clock()


class Executions:
    """The executions that are remembered."""

    def __init__(self, clock: Callable[[], str]) -> None:
        """Prepare; `clock` returns the time as it is shown to users."""
        self._clock = clock
        self._all: "OrderedDict[str, Execution]" = OrderedDict()
        self._parent: Optional[bytes] = None
        self._current: Optional[Execution] = None

    @property
    def is_full(self) -> bool:
        """Whether no further execution may be begun by HTTP."""
        unfinished = (each for each in self._all.values() if each.fingerprint)
        return sum(not each.has_ended for each in unfinished) >= MAX_UNFINISHED

    def all(self) -> List[Execution]:
        """Return all of them, the oldest first."""
        return list(self._all.values())

    def get(self, msg_id: str) -> Optional[Execution]:
        """Return the execution with this id; None if it is not known, or forgotten."""
        return self._all.get(msg_id)

    def add(self, msg_id: str, session: str, begin: Position) -> Optional[Execution]:
        """Add an execution whose request has come; return None if it cannot be remembered.

        Args:
            msg_id: the request's id; one that has been used replaces that execution, unless an HTTP
                client waits for it.
            session: the request's session.
            begin: the position of the log's next entry.
        """
        former = self._all.get(msg_id)
        is_awaited = former is not None and former.fingerprint and not former.has_ended
        if not msg_id or is_awaited or max(len(msg_id), len(session)) > MAX_ID_CHARS:
            return None
        self._all.pop(msg_id, None)
        execution = self._all[msg_id] = Execution(msg_id, session, begin, self._clock())
        self._parent = None
        if len(self._all) > MAX_EXECUTIONS:
            self._forget_one()
        return execution

    def record(self, entry: Entry) -> None:
        """Record an entry of the log, whatever it belongs to."""
        message = entry.message
        parent = message.parts[1]
        if parent != self._parent:
            self._parent = parent
            found = self._all.get(message.parent_id)
            is_same = found is not None and found.session == message.parent_session
            self._current = found if is_same else None
        execution = self._current
        if execution is not None and execution.ended is None:
            execution.record(entry, self._clock)

    def _forget_one(self) -> None:
        """Forget the oldest that has ended; if there is none, the oldest of a WebSocket client."""
        for is_ended in (True, False):
            for execution in self._all.values():
                if execution.has_ended if is_ended else not execution.fingerprint:
                    del self._all[execution.msg_id]
                    return
