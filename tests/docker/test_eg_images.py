"""Enterprise Gateway's own images by our launch script: the lent agent runs their launcher."""

import contextlib
from collections.abc import Iterator

import docker
import pytest
from harness.gateway import Gateway
from harness.leftovers import find_containers
from harness.site_kernels import ensure_eg_image
from harness.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.kernel, pytest.mark.client]

LOOP = "import time\nfor number in range(400):\n    print(number, flush=True)\n    time.sleep(0.01)"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The image's name; the engine has it."""
    with contextlib.closing(docker.from_env()) as client:
        yield ensure_eg_image(client)


@pytest.fixture
def kernel_id(own_gateway: Gateway, image: str) -> str:
    """A kernel in the image, of the gateway that the test may kill."""
    return own_gateway.start_kernel("python_docker", {"KERNEL_IMAGE": image})


def test_kernel_of_an_unchanged_image_gets_the_full_service(
    own_gateway: Gateway, kernel_id: str
) -> None:
    """In one container: input, interrupt, restart with the WebSocket open, and a graceful end."""
    assert len(find_containers(own_gateway.username)) == 1
    client = own_gateway.connect(kernel_id)
    asking = client.start_execution("input('who? ')", allow_stdin=True)
    prompt = client.receive_until(lambda message: message.type == "input_request")
    client.send("input_reply", {"value": "Ada"}, channel="stdin", parent_header=prompt.header)
    assert client.finish_execution(asking).result == "'Ada'"

    endless = client.start_execution("x = 1\nprint('on')\nwhile True: pass")
    client.receive_until(lambda message: message.type == "stream")
    assert own_gateway.request("POST", f"/api/kernels/{kernel_id}/interrupt").status_code == 204
    (error,) = client.finish_execution(endless).of_type("error")
    assert error.content["ename"] == "KeyboardInterrupt"
    assert client.execute("x").result == "1"

    restart = own_gateway.request("POST", f"/api/kernels/{kernel_id}/restart", timeout=60)
    assert restart.status_code == 200, restart.text
    assert client.execute("x").of_type("error")[0].content["ename"] == "NameError"

    own_gateway.delete_kernel(kernel_id)
    own_gateway.wait_until_no_kernels()


def test_output_goes_on_after_the_gateway_was_killed(own_gateway: Gateway, kernel_id: str) -> None:
    """The agent holds it, whoever started the kernel: complete and in order."""
    client = own_gateway.connect(kernel_id)
    printing = client.start_execution(LOOP)
    client.receive_until(lambda message: message.type == "stream")
    own_gateway.kill()
    client.receive_until_lost()
    own_gateway.start()
    again = own_gateway.connect(kernel_id, session_id=client.session_id)
    again.finish_execution(printing)
    printed = {
        int(line)
        for message in (*client.received, *again.received)
        if message.type == "stream"
        for line in message.content["text"].split()
    }
    assert printed == set(range(400))


def test_killed_kernel_comes_back_with_its_signal_for_a_reason(
    own_gateway: Gateway, kernel_id: str
) -> None:
    """Its launcher's script hides the exit code, but not what it was."""
    client = own_gateway.connect(kernel_id)
    client.start_execution("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")

    def reason() -> str:
        model = own_gateway.request("GET", f"/api/kernels/{kernel_id}").json()
        return str(model.get("reason", ""))

    wait_until(lambda: "SIGKILL" in reason(), what="the reason of the restart")
    assert own_gateway.connect(kernel_id).execute("1 + 1").result == "2"
