"""Run cells of the languages' table, and check what their user sees."""

import base64
import re
from collections.abc import Callable
from contextlib import suppress

from websocket import WebSocketTimeoutException

from harness.channels import Channels, Execution, Message
from harness.languages import Example, Failure

LATE_SECONDS = 10.0
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def expect_example(channels: Channels, example: Example, *, after_error: bool = False) -> None:
    """Run the cell, which must show what it should.

    `after_error` is whether the one before failed: Toree shows its `lastException` first.
    """
    execution = channels.execute(example.code)
    assert execution.status == "ok", execution.of_type("error")

    def is_shown() -> bool:
        shown = show(execution)
        return shown.endswith(example.shows) if after_error else shown == example.shows

    await_late(channels, execution, is_shown)
    assert is_shown(), show(execution)


def await_late(channels: Channels, execution: Execution, is_complete: Callable[[], bool]) -> None:
    """Wait for what an execution lacks: Toree may send messages after the idle status."""
    with suppress(WebSocketTimeoutException):
        while not is_complete():
            execution.add(channels.receive(timeout=LATE_SECONDS))


def show(execution: Execution) -> str:
    """Return what was printed, and the text of values; R's are displayed, not results."""
    return execution.stdout + "".join(
        str(message.content["data"]["text/plain"])
        for message in execution.messages
        if message.type in ("execute_result", "display_data")
    )


def expect_failure(channels: Channels, failure: Failure) -> None:
    """Run the cell, which must fail with its error, in the reply and below the cell."""
    execution = channels.execute(failure.code)
    assert execution.status == "error"
    await_late(channels, execution, lambda: bool(execution.of_type("error")))
    for message in (*execution.of_type("execute_reply"), *execution.of_type("error")):
        assert re.fullmatch(failure.name, message.content["ename"])
        assert re.search(failure.value, message.content["evalue"])
        assert bool(message.content["traceback"]) == failure.has_traceback
    assert len(execution.of_type("error")) == 1


def is_output_of(request_id: str) -> Callable[[Message], bool]:
    """Return a condition: the cell has printed something."""
    return lambda message: message.type == "stream" and message.parent_id == request_id


def expect_plot(channels: Channels, code: str) -> None:
    """Run the cell, which must show a picture that browsers know."""
    execution = channels.execute(code)
    assert execution.status == "ok", execution.of_type("error")
    (picture,) = (
        message.content["data"]["image/png"]
        for message in execution.of_type("display_data")
        if "image/png" in message.content["data"]
    )
    assert base64.b64decode(picture).startswith(PNG_SIGNATURE)
