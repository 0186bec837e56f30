"""Hidden tracebacks and rate limits."""

import pytest

from kernel_agent.kernel.iopub import RateLimiter, hide_traceback
from kernel_agent.wire.message import IOPUB, SHELL, Message, encode_json


def status(state: str, parent: dict[str, object]) -> Message:
    """Make a status message."""
    parts = [{"msg_type": "status"}, parent, {}, {"execution_state": state}]
    return Message(IOPUB, [encode_json(part) for part in parts])


@pytest.mark.parametrize("channel", [IOPUB, SHELL])
def test_traceback_is_hidden_in_output_and_reply(channel: bytes) -> None:
    """Name, value and traceback are replaced; the rest and other messages stay."""
    kind = "error" if channel == IOPUB else "execute_reply"
    content = {"status": "error", "ename": "E", "evalue": "v", "traceback": ["t"], "n": 1}
    parts = [encode_json({"msg_type": kind}), b"{}", b"{}", encode_json(content), b"buffer"]
    hidden = hide_traceback(Message(channel, parts), "hidden")
    assert hidden.content() == {
        "status": "error",
        "ename": "ExecutionError",
        "evalue": "Execution error",
        "traceback": ["hidden"],
        "n": 1,
    }
    assert hidden.buffers == [b"buffer"]
    other = Message(channel, [encode_json({"msg_type": "stream"}), *parts[1:]])
    assert hide_traceback(other, "hidden") is other


def test_rate_limit_drops_above_and_resumes_below() -> None:
    """One notice when dropping begins; status always passes; below 80 % output passes again."""
    limiter = RateLimiter(10.0, 0.0)
    stream = Message(IOPUB, [encode_json({"msg_type": "stream"}), b"{}", b"{}", b"{}"])
    admitted = [limiter.admit(stream, 0.0) for _ in range(35)]
    assert [passes for passes, _ in admitted] == [True] * 30 + [False] * 5
    assert [text is not None for _, text in admitted] == [False] * 30 + [True] + [False] * 4
    assert limiter.admit(status("idle", {}), 0.0) == (True, None)
    assert limiter.admit(stream, 2.9)[0] is False
    assert limiter.admit(stream, 3.1)[0] is True


def test_byte_rate_counts_stream_only() -> None:
    """As in jupyter_server, display data is free."""
    limiter = RateLimiter(0.0, 1000.0)
    for kind, expected in (("display_data", True), ("stream", False)):
        parts = [encode_json({"msg_type": kind}), b"{}", b"{}", b"x" * 4000]
        assert limiter.admit(Message(IOPUB, parts), 0.0)[0] is expected
