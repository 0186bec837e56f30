"""Which requests the kernel has not finished, and what is answered for it."""

import pytest

from kernel_agent.kernel.lifecycle import BY_GATEWAY, Next, explain_failure
from kernel_agent.kernel.pending import MAX_BYTES, PendingRequests, fail_request
from kernel_agent.process.exits import ExitReason
from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.message import CONTROL, IOPUB, SHELL, STDIN, Message, encode_json

KILLED = ExitReason("the kernel was killed by SIGKILL")


def request(
    msg_type: str = "execute_request", msg_id: str = "1", channel: bytes = SHELL, session: str = "s"
) -> Message:
    """Make a client's message."""
    header = {"msg_id": msg_id, "msg_type": msg_type, "session": session}
    return Message(channel, [encode_json(header), b"{}", b"{}", b"{}"])


def answer(asked: Message, msg_type: str, channel: bytes = SHELL, **content: object) -> Message:
    """Make what a kernel sends for a request."""
    header = encode_json({"msg_type": msg_type})
    return Message(channel, [header, asked.parts[0], b"{}", encode_json(content)])


def idle(asked: Message) -> Message:
    """Make the last status of a request."""
    return answer(asked, "status", IOPUB, execution_state="idle")


def ignore() -> None:
    """Do nothing."""


def kinds(pending: PendingRequests) -> list[str]:
    """Return what is answered for each, one after the other."""
    factory = MessageFactory()
    return [
        m.msg_type for each in pending.pop_all() for m in fail_request(each, "E", "why", factory)
    ]


def test_request_is_finished_by_reply_and_idle() -> None:
    """In either order; what is missing is all that is answered."""
    pending = PendingRequests()
    first, second, third, fourth = (request(msg_id=str(n)) for n in range(4))
    for each in (first, second, third, fourth):
        pending.add(each)
    pending.record_reply(answer(first, "execute_reply"))
    pending.record_iopub(idle(first))
    pending.record_iopub(idle(second))
    pending.record_reply(answer(third, "execute_reply"))
    assert kinds(pending) == [
        *("error", "execute_reply"),
        "status",
        *("error", "execute_reply", "status"),
    ]
    assert kinds(pending) == []


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (request("complete_request"), ["complete_reply", "status"]),
        (request("debug_request", channel=CONTROL), ["debug_reply", "status"]),
        (request("comm_msg"), ["status"]),
        (request("input_reply", channel=STDIN), []),
        (request("shutdown_request", channel=CONTROL), ["shutdown_reply", "status"]),
    ],
)
def test_each_kind_has_its_answer(asked: Message, answered: list[str]) -> None:
    """A reply of the type and on the channel of the request; none where none is due."""
    pending = PendingRequests()
    pending.add(asked)
    assert kinds(pending) == answered


def test_only_its_own_answers_finish_a_request() -> None:
    """Not those for another session's request of the same id, nor a prompt on stdin."""
    pending = PendingRequests()
    pending.add(request())
    other = request(session="t")
    pending.record_reply(answer(other, "execute_reply"))
    pending.record_iopub(idle(other))
    pending.record_reply(answer(request(), "input_request", STDIN))
    assert kinds(pending) == ["error", "execute_reply", "status"]


def test_failure_of_a_cell_says_whether_it_ran() -> None:
    """The first was running, even if the kernel found no time to say so; it keeps its count."""
    pending = PendingRequests()
    first, second = request(msg_id="1"), request(msg_id="2")
    pending.add(first)
    pending.add(second)
    pending.record_iopub(answer(first, "execute_input", IOPUB, code="x", execution_count=7))
    ran, waited = (fail_request(each, "E", "Why.", MessageFactory()) for each in pending.pop_all())
    assert ran[1].content()["execution_count"] == 7
    assert ran[0].content()["evalue"] == "Why."
    assert waited[0].content()["evalue"] == "Why. This was not run."
    assert ran[0].parts[1] == first.parts[0]


def test_oldest_request_without_a_reply_is_what_the_kernel_is_at() -> None:
    """On shell, whatever the kernel says: what runs on control is beside it."""
    pending = PendingRequests()
    assert pending.running is None
    pending.add(request("debug_request", "0", CONTROL))
    first, second = request(msg_id="1"), request(msg_id="2")
    pending.add(first)
    pending.add(second)
    assert pending.running == ("1", first.parts[0])
    pending.record_reply(answer(first, "execute_reply"))
    assert pending.running == ("2", second.parts[0])


def test_what_is_kept_is_bounded() -> None:
    """By its size; the oldest go."""
    pending = PendingRequests()
    for number in range(20):
        pending.add(request("x" * (MAX_BYTES // 10) + "_request", str(number)))
    assert len(pending.pop_all()) < 10
    pending.add(request("x" * MAX_BYTES))
    assert not pending.pop_all()


def test_messages_without_a_reply_crowd_out_no_request() -> None:
    """A slider that is moved while a cell runs sends thousands."""
    pending = PendingRequests()
    pending.add(request(msg_id="cell"))
    for number in range(20):
        pending.add(request("x" * (MAX_BYTES // 10), str(number)))
    cell, *others = pending.pop_all()
    assert b'"cell"' in cell.header
    assert 0 < len(others) < 10
    assert b'"19"' in others[-1].header


@pytest.mark.parametrize("is_restart", [True, False])
def test_shutdown_request_that_a_process_did_not_answer_succeeds(*, is_restart: bool) -> None:
    """The process has ended, which is what was asked for."""
    header = {"msg_id": "1", "msg_type": "shutdown_request", "session": "s"}
    content = encode_json({"restart": is_restart})
    pending = PendingRequests()
    pending.add(Message(CONTROL, [encode_json(header), b"{}", b"{}", content]))
    (one,) = pending.pop_all()
    reply, _ = fail_request(one, "E", "why", MessageFactory())
    assert reply.content() == {"status": "ok", "restart": is_restart}


@pytest.mark.parametrize(
    ("step", "ename", "evalue"),
    [
        (Next.END, "KernelShutDown", "The kernel was shut down by a request to the gateway."),
        (Next.STOP, "KernelShutDown", "The kernel was killed by SIGKILL."),
        (
            Next.STAY_DEAD,
            "KernelDied",
            "The kernel was killed by SIGKILL. Restart it to go on.",
        ),
    ],
)
def test_failure_says_why_and_what_follows(step: Next, ename: str, evalue: str) -> None:
    """In words that a user can act upon."""
    assert explain_failure(step, KILLED, requested_by=BY_GATEWAY) == (ename, evalue)
    restarted = explain_failure(Next.START, None, requested_by="by Ann")
    assert restarted == ("KernelRestarted", "The kernel was restarted by Ann.")


def test_request_that_the_kernel_has_left_without_a_reply_is_found() -> None:
    """Its `idle` has passed. Those that run or wait, in a subshell or on control, stay."""
    pending = PendingRequests()
    left, queued, on_control = request(), request(msg_id="2"), request(msg_id="3", channel=CONTROL)
    header = {"msg_id": "4", "msg_type": "execute_request", "session": "s", "subshell_id": "a"}
    in_subshell = Message(SHELL, [encode_json(header), b"{}", b"{}", b"{}"])
    for each in (left, queued, on_control, in_subshell):
        pending.add(each)
    for each in (left, on_control, in_subshell):
        pending.record_iopub(idle(each))
    assert [each.header for each in pending.pop_unreplied(ignore)] == [left.parts[0]]
    assert pending.pop_unreplied(ignore) == []
    assert len(pending.all()) == 3


def test_idle_that_comes_later_than_it_was_looked_for_is_told() -> None:
    """The two sockets of a kernel keep no order: only then is the request known to be left."""
    told: list[str] = []
    pending = PendingRequests()
    left, replied = request(), request(msg_id="2")
    for each in (left, replied):
        pending.add(each)
    assert pending.pop_unreplied(lambda: told.append("idle")) == []
    pending.record_reply(answer(replied, "execute_reply"))
    pending.record_iopub(idle(replied))
    assert told == []
    pending.record_iopub(idle(left))
    assert told == ["idle"]
    assert [each.header for each in pending.pop_unreplied(ignore)] == [left.parts[0]]


def test_all_cells_of_a_notebook_are_described() -> None:
    """A gateway fails them if the agent dies; front ends send them at once for "run all"."""
    pending = PendingRequests()
    for number in range(100):
        pending.add(request(msg_id=str(number)))
    assert [each["header"]["msg_id"] for each in pending.describe()] == [*map(str, range(100))]
