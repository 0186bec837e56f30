"""`kill -9` of the gateway under running kernels: clients come back to what was."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from harness.clients.channels import Execution, join_streams
from harness.engines.leftovers import find_containers, find_processes, find_session_members
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until

from jupyter_wire.messages import Message

pytestmark = [pytest.mark.client, pytest.mark.kernel]

KERNELS = 10
STATE_DEADLINE = 60.0
"""Seconds until a gateway that was just started knows every kernel's state."""


def print_lines(count: int, pause: float, *, prompt_at: int = -1) -> str:
    """Return code that prints the numbers up to `count`, and ends with a value.

    At `prompt_at` it waits for input.
    """
    return (
        "import time\n"
        f"for number in range({count}):\n"
        "    print(number, flush=True)\n"
        f"    time.sleep({pause})\n"
        f"    if number == {prompt_at}: input()\n"
        "'done'"
    )


def numbered_lines(count: int) -> str:
    """Return what `print_lines` prints."""
    return "".join(f"{number}\n" for number in range(count))


def has_printed(count: int) -> Callable[[Message], bool]:
    """Return a condition: a line with this number, or a later one, has arrived."""

    def is_met(message: Message) -> bool:
        lines = message.content["text"].split() if message.type == "stream" else []
        return bool(lines) and int(lines[-1]) >= count

    return is_met


def is_prompt(message: Message) -> bool:
    """Whether the kernel asks for input."""
    return message.type == "input_request"


def test_ten_kernels_go_on(own_gateway: Gateway, kernel_name: str) -> None:
    """All are listed with their states; output, prompt, interrupt, restart and delete work."""
    with ThreadPoolExecutor(4) as pool:
        kernels = list(pool.map(own_gateway.start_kernel, [kernel_name] * KERNELS))
    printing, asking, endless, restarted, deleted, *idle = kernels

    clients = {kernel_id: own_gateway.connect(kernel_id) for kernel_id in kernels}
    for kernel_id in (restarted, *idle):
        assert clients[kernel_id].execute(f"mine = '{kernel_id}'").status == "ok"
    endless_id = clients[endless].start_execution("print('on')\nwhile True: pass")
    clients[endless].receive_until(lambda message: message.type == "stream")
    asking_id = clients[asking].start_execution("name = input('who? ')\nname", allow_stdin=True)
    prompt = clients[asking].receive_until(is_prompt)
    lines = print_lines(2000, 0.002, prompt_at=1500)
    printing_id = clients[printing].start_execution(lines, allow_stdin=True)
    clients[printing].receive_until(has_printed(100))

    own_gateway.kill()
    for client in clients.values():
        client.receive_until_lost()
    own_gateway.start()

    listed = own_gateway.list_kernels()
    assert set(kernels) <= set(listed)
    assert {listed[kernel_id]["name"] for kernel_id in kernels} == {kernel_name}
    busy = {printing, asking, endless}

    def states_are_right() -> bool:
        models = own_gateway.list_kernels()
        return all(
            models[kernel_id]["execution_state"] == ("busy" if kernel_id in busy else "idle")
            for kernel_id in kernels
        )

    wait_until(states_are_right, deadline=STATE_DEADLINE, what="the kernels' states")

    again = {
        kernel_id: own_gateway.connect(kernel_id, session_id=clients[kernel_id].session_id)
        for kernel_id in kernels
    }
    received = [*clients[printing].received, *again[printing].received]
    prompts = [message for message in received if is_prompt(message)]
    ready = prompts[0] if prompts else again[printing].receive_until(is_prompt)
    reply = {"value": ""}
    again[printing].send("input_reply", reply, channel="stdin", parent_header=ready.header)
    finish = again[printing].finish_execution(printing_id)
    messages = join_streams(clients[printing].received, again[printing].received)
    check_output(messages, printing_id, numbered_lines(2000))
    assert finish.result == "'done'"

    reply = {"value": "Ada"}
    again[asking].send("input_reply", reply, channel="stdin", parent_header=prompt.header)
    assert again[asking].finish_execution(asking_id).result == "'Ada'"

    interrupt = own_gateway.request("POST", f"/api/kernels/{endless}/interrupt")
    assert interrupt.status_code == 204
    error = again[endless].finish_execution(endless_id).of_type("error")[0]
    assert error.content["ename"] == "KeyboardInterrupt"

    restart = own_gateway.request("POST", f"/api/kernels/{restarted}/restart")
    assert restart.status_code == 200, restart.text
    assert again[restarted].execute("mine").of_type("error")[0].content["ename"] == "NameError"

    for kernel_id in idle:
        assert again[kernel_id].execute("mine").result == repr(kernel_id)

    for client in again.values():
        client.close()
    own_gateway.delete_kernel(deleted)
    assert deleted not in own_gateway.list_kernels()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(own_gateway.delete_kernel, set(kernels) - {deleted}))
    own_gateway.wait_until_no_kernels()


def check_output(messages: list[Message], request_id: str, stdout: str) -> None:
    """Check that one execution's messages are all there, once, in the kernel's order."""
    execution = Execution(request_id)
    for message in messages:
        execution.add(message)
    assert execution.stdout == stdout
    iopub = [message for message in execution.messages if message.channel == "iopub"]
    assert iopub[0].content["execution_state"] == "busy"
    assert iopub[1].type == "execute_input"
    assert iopub[-1].content["execution_state"] == "idle"
    assert len(execution.of_type("execute_reply")) == 1
    assert execution.status == "ok"


def test_nothing_is_lost_over_several_kills(own_gateway: Gateway, kernel_name: str) -> None:
    """Three kills under a cell that floods: joined, what the client got has no gap."""
    kernel_id = own_gateway.start_kernel(kernel_name)
    client = own_gateway.connect(kernel_id)
    session_id = client.session_id
    request_id = client.start_execution(print_lines(8000, 0.0005))
    messages: list[Message] = []
    for kill_after in (500, 2000, 4000):
        client.receive_until(has_printed(kill_after))
        own_gateway.kill()
        client.receive_until_lost()
        messages = join_streams(messages, client.received)
        own_gateway.start()
        client = own_gateway.connect(kernel_id, session_id=session_id)
    client.receive_until(is_idle_of(request_id))
    if not any(message.type == "execute_reply" for message in client.received):
        client.receive_until(lambda message: message.type == "execute_reply")
    check_output(join_streams(messages, client.received), request_id, numbered_lines(8000))
    client.close()


def is_idle_of(request_id: str) -> Callable[[Message], bool]:
    """Return a condition: the idle status that ends the execution."""
    return lambda message: (
        message.parent_id == request_id and message.content.get("execution_state") == "idle"
    )


def test_output_of_a_client_that_was_away_waits(own_gateway: Gateway, kernel_name: str) -> None:
    """A cell that ends while neither gateway nor client is there is delivered afterwards."""
    kernel_id = own_gateway.start_kernel(kernel_name)
    client = own_gateway.connect(kernel_id)
    request_id = client.start_execution(print_lines(200, 0.005))
    client.receive_until(has_printed(5))
    own_gateway.kill()
    client.receive_until_lost()

    own_gateway.start()
    wait_until(
        lambda: own_gateway.list_kernels()[kernel_id]["execution_state"] == "idle",
        what="the end of the cell",
    )
    again = own_gateway.connect(kernel_id, session_id=client.session_id)
    again.finish_execution(request_id)
    check_output(join_streams(client.received, again.received), request_id, numbered_lines(200))
    again.close()


def test_sigterm_leaves_kernels_running(own_gateway: Gateway) -> None:
    """A gateway that is told to stop ends with 0; its kernels go on and the next one has them."""
    kernels = [own_gateway.start_kernel(name) for name in ("python3", "python_docker")]
    clients = [own_gateway.connect(kernel_id) for kernel_id in kernels]
    for client in clients:
        assert client.execute("x = 41").status == "ok"
    assert own_gateway.stop() == 0
    assert find_containers(own_gateway.username)
    assert find_processes(own_gateway.kernel_marker)
    own_gateway.start()
    for kernel_id, client in zip(kernels, clients, strict=True):
        again = own_gateway.connect(kernel_id, session_id=client.session_id)
        assert again.execute("x + 1").result == "42"
        again.close()


def test_helper_processes_end_with_the_gateway(own_gateway: Gateway) -> None:
    """Whatever the gateway started for itself, such as its launch server, ends with it."""
    own_gateway.start_kernel("python_docker")
    assert own_gateway.process is not None
    session = own_gateway.process.pid
    assert find_session_members(session)
    own_gateway.kill()
    wait_until(lambda: not find_session_members(session), what="end of the helper processes")


def test_kill_during_launch_leaves_nothing_for_long(own_gateway: Gateway, kernel_name: str) -> None:
    """A kernel whose report reaches no gateway ends itself; the next gateway removes the rest."""

    def start_and_lose() -> None:
        with contextlib.suppress(requests.ConnectionError):
            own_gateway.start_kernel(kernel_name)

    def find_workload() -> list[object]:
        return [
            *find_containers(own_gateway.username),
            *find_processes(own_gateway.kernel_marker),
        ]

    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(start_and_lose)
        wait_until(find_workload, what="the workload")
        own_gateway.kill()
    lost.result()

    def has_ended() -> bool:
        containers = find_containers(own_gateway.username)
        return not find_processes(own_gateway.kernel_marker) and all(
            container.status == "exited" for container in containers
        )

    # the agent tries to report for some seconds; then it has to end its kernel
    wait_until(has_ended, deadline=120, what="end of the unreported kernel")
    own_gateway.start()
    wait_until(lambda: not find_workload(), deadline=120, what="removal of what it left")
