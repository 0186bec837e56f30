"""Run cells of the languages' table, and check what their user sees."""

import base64
import os
import re
import signal
from collections.abc import Callable
from contextlib import closing

from harness.clients.channels import Channels, Execution, join_streams
from harness.clients.languages import Example, Failure
from harness.engines.leftovers import find_kernel_containers
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until
from jupyter_wire.messages import Message

LINES = 400
"""That a kernel prints when its gateway is killed."""
FLOOD_LINES = 1900
"""That a kernel prints while its agent stands still: more than its socket and the network keep by
themselves, and less than the half of what the agent has it keep."""
FLOOD_SECONDS = 120.0
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def execute(channels: Channels, code: str) -> Execution:
    """Run a cell. Its idle status must come last: many clients listen no longer."""
    execution = channels.execute(code)
    published = [message for message in execution.messages if message.channel == "iopub"]
    assert published[-1].content.get("execution_state") == "idle", published
    return execution


def expect_example(channels: Channels, example: Example, *, after_error: bool = False) -> None:
    """Run the cell, which must show what it should.

    `after_error` is whether the one before failed: Toree shows its `lastException` first.
    """
    execution = execute(channels, example.code)
    assert execution.status == "ok", execution.of_type("error")
    shown = show(execution)
    assert shown.endswith(example.shows) if after_error else shown == example.shows, shown


def show(execution: Execution) -> str:
    """Return what was printed and the text of values in their order; R displays its values."""
    return "".join(map(show_message, execution.messages))


def show_message(message: Message) -> str:
    """Return the part of it that is plain output, "" if it has none."""
    match message.type:
        case "stream" if message.content["name"] == "stdout":
            return str(message.content["text"])
        case "execute_result" | "display_data":
            return str(message.content["data"].get("text/plain", ""))
        case _:
            return ""


def expect_failure(channels: Channels, failure: Failure) -> None:
    """Run the cell, which must fail with its error, in the reply and below the cell."""
    execution = execute(channels, failure.code)
    assert execution.status == "error"
    (error,) = execution.of_type("error")
    for message in (*execution.of_type("execute_reply"), error):
        assert re.fullmatch(failure.name, message.content["ename"])
        assert re.search(failure.value, message.content["evalue"])
        assert bool(message.content["traceback"]) == failure.has_traceback


def is_output_of(request_id: str) -> Callable[[Message], bool]:
    """Return a condition: the cell has printed something."""
    return lambda message: message.type == "stream" and message.parent_id == request_id


def expect_plot(channels: Channels, code: str) -> None:
    """Run the cell, which must show a picture that browsers know."""
    execution = execute(channels, code)
    assert execution.status == "ok", execution.of_type("error")
    (picture,) = (
        message.content["data"]["image/png"]
        for message in execution.of_type("display_data")
        if "image/png" in message.content["data"]
    )
    assert base64.b64decode(picture).startswith(PNG_SIGNATURE)


def expect_output_beyond_the_gateway(gateway: Gateway, kernel_id: str, lines: str) -> None:
    """`kill -9` under a printing cell: the same client session gets every line, in order.

    `lines` is what `Language.lines` is.
    """
    client = gateway.connect(kernel_id)
    request_id = client.start_execution(lines.replace("COUNT", str(LINES)))
    client.receive_until(is_output_of(request_id))
    gateway.kill()
    client.receive_until_lost()
    gateway.start()
    with closing(gateway.connect(kernel_id, session_id=client.session_id)) as again:
        again.finish_execution(request_id)
        execution = Execution(request_id)
        for message in join_streams(client.received, again.received):
            execution.add(message)
    assert all(message.type != "execute_reply" for message in client.received)
    assert execution.stdout == "".join(f"{number}\n" for number in range(LINES))
    assert len(execution.of_type("execute_reply")) == 1
    assert execution.status == "ok"


def expect_output_beyond_a_stall(gateway: Gateway, kernel_id: str, flood: str) -> None:
    """The agent stands still while a cell prints: what it printed comes when the agent goes on.

    `flood` is what `Language.flood` is.
    """
    (container,) = find_kernel_containers(kernel_id)
    agent = int(container.attrs["State"]["Pid"])
    file = f"/tmp/{kernel_id}"
    code = flood.replace("COUNT", str(FLOOD_LINES)).replace("FILE", file)
    with closing(gateway.connect(kernel_id)) as client:
        request_id = client.start_execution(code)
        client.receive_until(is_output_of(request_id))
        os.kill(agent, signal.SIGSTOP)
        try:
            wait_until(
                lambda: container.exec_run(["test", "-e", file]).exit_code == 0,
                deadline=FLOOD_SECONDS,
                what="the end of the cell",
            )
        finally:
            os.kill(agent, signal.SIGCONT)
        execution = client.finish_execution(request_id)
    assert execution.status == "ok"
    numbers = re.findall(r"^(\d+) x+$", execution.stdout, re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(FLOOD_LINES))


def publish_megabytes(count: int) -> str:
    """Return code for ipykernel that sends lines of 1 MB, which begin with their number from 000.

    Twenty a second at most, so that they do not wait in the kernel; and not by `print`, of which
    IPython keeps everything.
    """
    return (
        "import time\n"
        "kernel = get_ipython().kernel\n"
        f"for number in range({count}):\n"
        "    content = {'name': 'stdout', 'text': '%03d' % number + 'x' * 1_000_000 + '\\n'}\n"
        "    kernel.session.send(\n"
        "        kernel.iopub_socket, 'stream', content, parent=kernel.get_parent(),\n"
        "        ident=b'stream',\n"
        "    )\n"
        "    time.sleep(0.05)"
    )
