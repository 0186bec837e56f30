"""Uses of a kernel, the same for each language; harness/clients/languages.py has the table.

The tests share a kernel of each language. Those that end its process come last.
"""

import re
from contextlib import closing, suppress

import pytest
from docker.utils import parse_bytes
from harness.clients.cells import (
    expect_example,
    expect_failure,
    expect_output_beyond_a_stall,
    expect_output_beyond_the_gateway,
    expect_plot,
    is_output_of,
)
from harness.clients.channels import Channels
from harness.clients.languages import Language, culled_kernel
from harness.clients.notebook_server import NotebookServer
from harness.engines.leftovers import find_kernel_containers
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until

from jupyter_wire.messages import Message
from kernel_agent.process.exits import in_binary_unit

pytestmark = [pytest.mark.docker, pytest.mark.kernel, pytest.mark.client]

QUICK_CELLS = 20
REASON_SECONDS = 60.0


def test_kernel_says_what_it_speaks(channels: Channels, language: Language) -> None:
    """Front ends choose their highlighting by it."""
    reply = channels.request("kernel_info_request")
    assert reply.content["language_info"]["name"] == language.name


def test_output_and_value_are_shown(channels: Channels, language: Language) -> None:
    """What a cell prints comes as it is, and its value as text."""
    expect_example(channels, language.hello)
    expect_example(channels, language.value)


def test_variables_are_kept_from_cell_to_cell(channels: Channels, language: Language) -> None:
    """A cell goes on where the last one ended."""
    assert channels.execute(language.keep).status == "ok"
    expect_example(channels, language.kept)


def test_error_is_shown_and_the_kernel_goes_on(channels: Channels, language: Language) -> None:
    """One of the program and one of its syntax; both with name, text and traceback."""
    for failure in language.failures:
        expect_failure(channels, failure)
    expect_example(channels, language.value, after_error=True)


def test_names_are_completed(channels: Channels, language: Language) -> None:
    """With the place where the completion belongs."""
    assert channels.execute(language.keep).status == "ok"
    code = language.completion
    reply = channels.request("complete_request", {"code": code, "cursor_pos": len(code)}).content
    completed = {
        code[: reply["cursor_start"]] + match + code[reply["cursor_end"] :]
        for match in reply["matches"]
    }
    assert "zip_code" in completed


def test_incomplete_code_is_told_apart(channels: Channels, language: Language) -> None:
    """Consoles ask before they run a line, and run the next."""
    for status in ("complete", "incomplete", "invalid"):
        reply = channels.request("is_complete_request", {"code": getattr(language, status)})
        assert reply.content["status"] == status
    expect_example(channels, language.value)


def test_user_is_asked_for_input(channels: Channels, language: Language) -> None:
    """A prompt waits for its answer."""
    if not language.prompt:
        pytest.skip("its kernel does not ask clients")
    request_id = channels.start_execution(language.prompt, allow_stdin=True)
    prompt = channels.receive_until(lambda message: message.type == "input_request")
    assert prompt.content["prompt"] == "who? "
    channels.send("input_reply", {"value": "Ada"}, channel="stdin", parent_header=prompt.header)
    assert channels.finish_execution(request_id).stdout.strip() == "hello Ada"


def test_plot_is_an_image(channels: Channels, language: Language) -> None:
    """Such as a browser can show."""
    expect_plot(channels, language.plot)


@pytest.mark.parametrize("what", ["sleep", "loop"])
def test_interrupt_ends_a_cell(
    host: Gateway | NotebookServer, channels: Channels, kernel: str, language: Language, what: str
) -> None:
    """What it does nothing to is everything else: variables are kept."""
    assert channels.execute(language.keep).status == "ok"
    request_id = channels.start_execution(getattr(language, what))
    channels.receive_until(is_output_of(request_id))
    response = host.request("POST", f"/api/kernels/{kernel}/interrupt")
    assert response.status_code == 204, response.text
    execution = channels.finish_execution(request_id)
    assert execution.status != "ok"
    errors = [str(message.content) for message in execution.of_type("error")]
    assert len(errors) == bool(language.interruption), errors
    assert all(re.search(language.interruption, error) for error in errors), errors
    expect_example(channels, language.kept, after_error=True)


def test_what_the_language_is_used_for_works(
    gateway: Gateway, kernel: str, language: Language
) -> None:
    """Each on its own."""
    with closing(gateway.connect(kernel)) as channels:
        for example in language.specifics:
            expect_example(channels, example)


def test_idle_comes_last_of_all(gateway: Gateway, kernel: str, language: Language) -> None:
    """However quick the cells are, each with what it is for."""
    with closing(gateway.connect(kernel)) as channels:
        for _ in range(QUICK_CELLS // 2):
            expect_example(channels, language.value, after_error=True)
            expect_failure(channels, language.failures[0])


def test_output_outlives_the_gateway(gateway: Gateway, kernel: str, language: Language) -> None:
    """Whatever the language, nothing that it printed is lost."""
    expect_output_beyond_the_gateway(gateway, kernel, language.lines)


def test_output_outlives_a_stall_of_the_agent(
    gateway: Gateway, kernel: str, language: Language
) -> None:
    """On a busy machine the kernel may print far ahead of what carries its output."""
    expect_output_beyond_a_stall(gateway, kernel, language.flood)


def test_restart_forgets_all_but_the_connections(
    gateway: Gateway, server: NotebookServer, kernel: str, language: Language
) -> None:
    """Connected clients go on with the new process, whichever way they are connected."""
    with closing(gateway.connect(kernel)) as mine, closing(server.connect(kernel)) as theirs:
        assert mine.execute(language.keep).status == "ok"
        response = server.request("POST", f"/api/kernels/{kernel}/restart")
        assert response.status_code == 200, response.text
        for client in (mine, theirs):
            expect_failure(client, language.forgotten)
            info = client.request("kernel_info_request").content
            assert info["language_info"]["name"] == language.name
        assert not any(map(is_restarting, mine.received)), "front ends take it for a crash"


def is_restarting(message: Message) -> bool:
    """Whether a message says that the kernel died and comes back."""
    return message.content.get("execution_state") == "restarting"


def test_kernel_that_was_killed_comes_back(
    gateway: Gateway, kernel: str, language: Language
) -> None:
    """`kill -9` in the container: the client is told, and the model has the signal."""
    with closing(gateway.connect(kernel)) as channels:
        assert channels.execute(language.keep).status == "ok"
        (container,) = find_kernel_containers(kernel)
        # The agent is process 1, and the kernel its only child.
        kill = container.exec_run(["sh", "-c", "kill -9 $(cat /proc/1/task/1/children)"])
        assert kill.exit_code == 0, kill.output
        channels.receive_until(is_restarting)
        expect_failure(channels, language.forgotten)
    expect_reason(gateway, kernel, "the kernel was killed by SIGKILL")


def expect_reason(gateway: Gateway, kernel_id: str, reason: str) -> None:
    """Wait until the kernel's model says why its last process died; it must be this."""

    def told() -> str:
        return str(gateway.list_kernels()[kernel_id].get("reason"))

    with suppress(TimeoutError):
        wait_until(lambda: told() == reason, deadline=REASON_SECONDS)
    assert told() == reason


def test_kernel_that_takes_too_much_memory_comes_back(
    gateway: Gateway, kernel: str, language: Language
) -> None:
    """The container's limit ends the kernel and nothing else, and that is told below the cell."""
    with closing(gateway.connect(kernel)) as channels:
        failure = channels.execute(language.hog)
        reason = failure.of_type("error")[-1].content["evalue"]
        limit = in_binary_unit(parse_bytes(language.memory_limit))
        killed = f"killed by SIGKILL (out of memory: the limit is {limit})"
        assert reason.startswith(f"The kernel was {killed}.")
        channels.receive_until(is_restarting)
        expect_example(channels, language.value)
    expect_reason(gateway, kernel, f"the kernel was {killed}")


def test_idle_kernel_is_culled(gateway: Gateway, language: Language) -> None:
    """After the time that its kernelspec says, nothing is left of it."""
    kernel_id = gateway.start_kernel(culled_kernel(language))
    with closing(gateway.connect(kernel_id)) as channels:
        expect_example(channels, language.value)
    gateway.wait_until_gone(kernel_id)
    wait_until(lambda: not find_kernel_containers(kernel_id), what="end of the container")
