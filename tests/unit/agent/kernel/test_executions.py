"""What is known of each execution, from the entries of the log."""

import itertools

import pytest

from kernel_agent.kernel.executions import (
    MAX_EXECUTIONS,
    MAX_ID_CHARS,
    MAX_UNFINISHED,
    Execution,
    Executions,
)
from kernel_agent.wire.entries import Entry, Position
from kernel_agent.wire.message import CONTROL, IOPUB, SHELL, STDIN, Message, encode_json

START = Position(0, 0, 0)


class Book:
    """Executions, and a log that appends what the test says."""

    def __init__(self) -> None:
        ticks = itertools.count()
        self.executions = Executions(lambda: f"t{next(ticks)}")
        self.number = 0

    def add(self, msg_id: str, session: str = "s", fingerprint: str = "") -> Execution:
        """Add an execution; with a fingerprint it is that of an HTTP client."""
        execution = self.executions.add(msg_id, session, Position(self.number, 0, 0))
        assert execution is not None
        execution.fingerprint = fingerprint
        return execution

    def log(
        self,
        msg_id: str,
        msg_type: str,
        channel: bytes = IOPUB,
        session: str = "s",
        **content: object,
    ) -> None:
        """Append a message for a request."""
        parent = {"msg_id": msg_id, "session": session, "msg_type": "execute_request"}
        parts = [encode_json({"msg_type": msg_type}), encode_json(parent), b"{}"]
        message = Message(channel, [*parts, encode_json(content)])
        self.executions.record(Entry(self.number, message, 0, 0, 0, 0))
        self.number += 1

    def finish(self, msg_id: str, status: str = "ok", session: str = "s") -> None:
        """Append reply and idle."""
        self.log(msg_id, "execute_reply", SHELL, session=session, status=status)
        self.log(msg_id, "status", session=session, execution_state="idle")


@pytest.mark.parametrize("order", list(itertools.permutations(["reply", "idle"])))
@pytest.mark.parametrize(
    ("status", "state"),
    [("ok", "done"), ("error", "failed"), ("aborted", "aborted"), ("abort", "aborted")],
)
def test_execution_goes_from_queued_to_its_end(
    order: tuple[str, ...], status: str, state: str
) -> None:
    """It has ended with reply and idle, whichever comes first; the reply tells its state."""
    book = Book()
    one = book.add("1")
    seen = [one.state.value]
    book.log("1", "status", execution_state="busy")
    seen.append(one.state.value)
    book.log("1", "stream", name="stdout", text="x")
    for each in order:
        assert not one.has_ended
        if each == "reply":
            book.log("1", "execute_reply", SHELL, status=status)
        else:
            book.log("1", "status", execution_state="idle")
    assert [*seen, one.state.value] == ["queued", "running", state]
    assert (one.queued, one.started, one.ended) == ("t0", "t1", "t2")
    assert (one.begin.number, one.end.number) == (0, 4)
    assert one.messages == 2


def test_execution_without_status_runs_from_its_input_on() -> None:
    """Some kernels send no busy."""
    book = Book()
    one = book.add("1")
    book.log("1", "execute_input", code="")
    assert one.started == "t1"


def test_messages_of_others_are_not_counted() -> None:
    """Other requests, other sessions with the same id, and what comes after the end."""
    book = Book()
    one, two = book.add("1"), book.add("2")
    book.log("2", "stream", text="x")
    book.log("1", "stream", session="other", text="x")
    book.log("unknown", "stream", text="x")
    assert (one.messages, two.messages) == (0, 1)
    book.finish("1")
    described = one.describe((0, 0))
    book.log("1", "stream", text="late")
    book.log("1", "status", execution_state="busy")
    assert one.describe((0, 0)) == described
    assert one.end.number == 5


def test_prompt_is_answered_once_and_ends_with_the_reply() -> None:
    """The header of the input_request is the parent of its answer."""
    book = Book()
    one = book.add("1")
    assert one.take_prompt() is None
    book.log("1", "input_request", STDIN, prompt="? ")
    assert one.describe((0, 0))["awaits_input"]
    assert one.take_prompt() == b'{"msg_type":"input_request"}'
    assert one.take_prompt() is None
    book.log("1", "input_request", STDIN, prompt="? ")
    book.finish("1", "error")
    assert one.take_prompt() is None


def test_listeners_hear_of_changes_until_they_leave() -> None:
    """Also one that leaves while it is told."""
    book = Book()
    one = book.add("1")
    heard: list[str] = []
    leave = one.subscribe(lambda _: heard.append("stays"))

    def once(_: Entry) -> None:
        heard.append("once")
        leave_once()

    leave_once = one.subscribe(once)
    book.log("1", "stream", text="x")
    book.log("1", "stream", text="x")
    leave()
    book.log("1", "stream", text="x")
    assert heard == ["stays", "once", "stays"]


def test_number_of_executions_is_limited() -> None:
    """The oldest that have ended go first, then the oldest of WebSocket clients."""
    book = Book()
    http = book.add("http", fingerprint="f")
    waiting = book.add("waiting")
    for number in range(MAX_EXECUTIONS):
        book.add(str(number))
        book.finish(str(number))
    known = book.executions.all()
    assert len(known) == MAX_EXECUTIONS
    assert known[:2] == [http, waiting]
    for number in range(MAX_EXECUTIONS):
        book.add(f"queued {number}")
    known = book.executions.all()
    assert len(known) == MAX_EXECUTIONS
    assert known[0] is http
    assert book.executions.get("waiting") is None


def test_unfinished_executions_of_http_clients_are_limited() -> None:
    """Those of WebSocket clients do not count."""
    book = Book()
    for number in range(MAX_UNFINISHED):
        book.add(f"socket {number}")
        assert not book.executions.is_full
        book.add(str(number), fingerprint="f")
    assert book.executions.is_full
    book.finish("0")
    assert not book.executions.is_full


def test_ids_cannot_displace_what_is_waited_for() -> None:
    """A repeated id is a new execution, unless an HTTP client waits for the first."""
    book = Book()
    first = book.add("1")
    second = book.add("1")
    assert book.executions.get("1") is second is not first
    book.finish("1")
    assert (first.has_ended, second.has_ended) == (False, True)
    awaited = book.add("1", fingerprint="f")
    assert book.executions.add("1", "s", START) is None
    book.finish("1")
    assert awaited.has_ended
    assert book.executions.add("1", "s", START) is not None


@pytest.mark.parametrize(
    ("msg_id", "session"), [("", "s"), ("x" * (MAX_ID_CHARS + 1), "s"), ("x", "s" * 1000)]
)
def test_strange_ids_are_not_remembered(msg_id: str, session: str) -> None:
    """The list of executions has to stay small."""
    assert Book().executions.add(msg_id, session, START) is None


def test_reply_on_another_channel_is_no_reply() -> None:
    """A comm or debug message with the same parent ends nothing."""
    book = Book()
    one = book.add("1")
    book.log("1", "debug_reply", CONTROL, status="ok")
    book.log("1", "status", execution_state="idle")
    assert not one.has_ended
