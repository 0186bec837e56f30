"""Busy or idle, read off the kernel's status messages."""

import pytest

from kernel_agent.kernel.activity import Activity, Running
from kernel_agent.wire.message import IOPUB, Message, encode_json


def status(state: str, parent: dict[str, object]) -> Message:
    """Make a status message."""
    parts = [{"msg_type": "status"}, parent, {}, {"execution_state": state}]
    return Message(IOPUB, [encode_json(part) for part in parts])


def request(msg_type: str, msg_id: str = "1", **extra: object) -> dict[str, object]:
    """Make a parent header."""
    return {"msg_id": msg_id, "msg_type": msg_type, **extra}


def test_cell_makes_busy_until_its_idle() -> None:
    """Busy and idle of an execute_request count."""
    activity = Activity()
    assert activity.update(status("busy", request("execute_request")))
    assert activity.is_busy
    assert activity.update(status("idle", request("execute_request")))
    assert not activity.is_busy


@pytest.mark.parametrize("kind", ["kernel_info_request", "debug_request", "usage_request"])
def test_untracked_requests_change_nothing(kind: str) -> None:
    """Requests that are no activity of a user neither make busy nor end it."""
    activity = Activity()
    assert not activity.update(status("busy", request(kind)))
    assert not activity.is_busy
    activity.update(status("busy", request("execute_request", "cell")))
    assert activity.update(status("idle", request(kind)))
    assert activity.is_busy
    assert not activity.update(status("idle", {})) or activity.is_busy


def test_subshells_are_followed_apart() -> None:
    """A comm in a subshell that ends does not end the cell beside it."""
    activity = Activity()
    activity.update(status("busy", request("execute_request", "cell")))
    activity.update(status("busy", request("comm_msg", "comm", subshell_id="s")))
    activity.update(status("idle", request("comm_msg", "comm", subshell_id="s")))
    assert activity.is_busy
    activity.update(status("idle", request("execute_request", "cell")))
    assert not activity.is_busy


def test_lost_idle_does_not_make_busy_for_ever() -> None:
    """The next request of the same subshell shows that the earlier one has ended."""
    activity = Activity()
    activity.update(status("busy", request("execute_request", "1")))
    activity.update(status("busy", request("execute_request", "2")))
    activity.update(status("idle", request("execute_request", "2")))
    assert not activity.is_busy


def test_interruptible_is_the_request_of_the_main_shell() -> None:
    """With the header as the kernel repeats it; a subshell's is out of an interrupt's reach."""
    activity = Activity()
    assert activity.interruptible is None
    activity.update(status("busy", request("comm_msg", "comm", subshell_id="s")))
    assert activity.interruptible is None
    cell = request("execute_request", "cell")
    activity.update(status("busy", cell))
    assert activity.interruptible == Running("cell", encode_json(cell))
    activity.update(status("idle", cell))
    assert activity.interruptible is None
