"""`jupyter enterprisegateway kernels` works with and without a gateway."""

import json
from collections.abc import Callable

import pytest
from harness.gateways.gateway import Gateway

MakeGateway = Callable[..., Gateway]

pytestmark = pytest.mark.kernel


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    """A running gateway."""
    running = make_gateway()
    running.start()
    return running


def test_kernels_of_a_stopped_gateway_are_listed_and_stopped(gateway: Gateway) -> None:
    """The command needs no gateway: kernels are stopped by id, and all at once."""
    first, second, third = (gateway.start_kernel("python3") for _ in range(3))
    assert gateway.stop() == 0

    table = gateway.run_command("kernels", "list")
    assert table.returncode == 0
    header, *lines = table.stdout.splitlines()
    assert header.startswith("KERNEL ID")
    assert [line.split()[0] for line in lines] == [first, second, third]
    assert {line.split()[1] for line in lines} == {"python3"}

    stopped = gateway.run_command("kernels", "stop", second)
    assert (stopped.returncode, stopped.stdout) == (0, f"Stopped {second}\n")
    listed = json.loads(gateway.run_command("kernels", "list", "--json").stdout)
    assert [kernel["id"] for kernel in listed] == [first, third]
    assert listed[0]["execution_state"] == "idle"
    assert listed[0]["username"] == gateway.username

    assert gateway.run_command("kernels", "stop", "--all").returncode == 0
    assert gateway.run_command("kernels", "list").stdout == "No kernels.\n"
    gateway.wait_until_no_kernels()


def test_running_gateway_learns_that_a_kernel_was_stopped(gateway: Gateway) -> None:
    """A running gateway no longer lists a kernel that the command stopped."""
    kernel_id = gateway.start_kernel("python3")
    assert gateway.run_command("kernels", "stop", kernel_id).returncode == 0
    gateway.wait_until_gone(kernel_id)


def test_unknown_kernel_is_an_error_and_the_others_are_stopped(gateway: Gateway) -> None:
    """One wrong id does not keep the rest running."""
    kernel_id = gateway.start_kernel("python3")
    unknown = "7f6b1b62-0000-4000-8000-000000000000"
    done = gateway.run_command("kernels", "stop", unknown, kernel_id)
    assert done.returncode == 1
    assert f"Kernel does not exist: {unknown}" in done.stderr
    assert done.stdout == f"Stopped {kernel_id}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "list or stop"),
        (["stop"], "their ids, or --all"),
        (["stop", "--all", "x"], "their ids, or --all"),
    ],
)
def test_incomplete_command_is_refused(
    make_gateway: MakeGateway, arguments: list[str], message: str
) -> None:
    """Nothing is stopped by accident."""
    done = make_gateway().run_command("kernels", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
