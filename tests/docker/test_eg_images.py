"""Enterprise Gateway's own images by our launch script: the injected agent runs their launcher."""

import contextlib
from collections.abc import Iterator

import docker
import pytest
from harness.clients.cells import expect_output_beyond_the_gateway
from harness.clients.languages import PYTHON
from harness.engines.leftovers import find_containers
from harness.gateways.gateway import Gateway
from harness.kernels.site_kernels import (
    ensure_eg_image,
    expect_input_and_interrupt,
)
from harness.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.kernel, pytest.mark.client]


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
    expect_input_and_interrupt(own_gateway, client, kernel_id)

    restart = own_gateway.request("POST", f"/api/kernels/{kernel_id}/restart")
    assert restart.status_code == 200, restart.text
    assert client.execute("x").of_type("error")[0].content["ename"] == "NameError"

    own_gateway.delete_kernel(kernel_id)
    own_gateway.wait_until_no_kernels()


def test_output_goes_on_after_the_gateway_was_killed(own_gateway: Gateway, kernel_id: str) -> None:
    """The agent holds it, complete and in order, however the kernel was started."""
    expect_output_beyond_the_gateway(own_gateway, kernel_id, PYTHON.lines)


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
