"""Unit tests of what viewers get in place of an answer of the kernel."""

import json

import pytest

from kernel_agent.kernel.viewers import answer_viewer
from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.codec import Request
from kernel_agent.wire.message import CONTROL, SHELL, STDIN

INFO = {"status": "ok", "language_info": {"name": "python"}}


def ask(channel: bytes, msg_type: str) -> list[tuple[bytes, str, dict[str, object]]]:
    """Return channel, type and content of the answers to a message."""
    header = {"msg_type": msg_type, "msg_id": "m", "session": "s"}
    request = Request(channel, header, [json.dumps(header).encode(), b"{}", b"{}", b"{}"])
    answers = answer_viewer(request, INFO, MessageFactory())
    assert {answer.parent_id for answer in answers} <= {"m"}
    return [(answer.channel, answer.msg_type, answer.content()) for answer in answers]


def test_execution_fails_with_the_reason() -> None:
    """As output, so that the cell shows it, as reply and with idle."""
    answers = ask(SHELL, "execute_request")
    assert [(channel, kind) for channel, kind, _ in answers] == [
        (b"iopub", "error"),
        (SHELL, "execute_reply"),
        (b"iopub", "status"),
    ]
    assert answers[1][2]["status"] == "error"
    assert "read-only" in str(answers[1][2]["evalue"])


def test_front_end_gets_the_latest_kernel_info() -> None:
    """Without it JupyterLab shows nothing."""
    assert ask(SHELL, "kernel_info_request")[0] == (SHELL, "kernel_info_reply", INFO)


@pytest.mark.parametrize("msg_type", ["shutdown_request", "interrupt_request", "debug_request"])
def test_control_is_refused(msg_type: str) -> None:
    """A shutdown does not seem to have succeeded."""
    (reply, _) = ask(CONTROL, msg_type)
    assert (reply[0], reply[2]["status"]) == (CONTROL, "error")


@pytest.mark.parametrize(("channel", "msg_type"), [(STDIN, "input_reply"), (SHELL, "comm_msg")])
def test_what_has_no_reply_is_dropped(channel: bytes, msg_type: str) -> None:
    """Nothing waits for an answer."""
    assert ask(channel, msg_type) == []
