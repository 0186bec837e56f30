"""`jupyter enterprisegateway kernels`: list and stop, whether a gateway lives or not."""

import pytest
from harness.gateways.gateway import Gateway

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


@pytest.mark.parametrize("is_running", [True, False], ids=["gateway runs", "gateway was killed"])
def test_kernels_are_listed_and_stopped(own_gateway: Gateway, *, is_running: bool) -> None:
    """`list` names every kernel; `stop ID` ends one; `stop --all` the rest, and no other's."""
    kernels = [own_gateway.start_kernel(name) for name in ("python3", "python_docker", "python3")]
    if not is_running:
        own_gateway.kill()

    listed = own_gateway.run_command("kernels", "list")
    assert listed.returncode == 0, listed.stderr
    lines = {
        kernel_id: line
        for line in listed.stdout.splitlines()
        for kernel_id in kernels
        if kernel_id in line
    }
    assert set(lines) == set(kernels)
    assert own_gateway.username in lines[kernels[0]]

    stopped = own_gateway.run_command("kernels", "stop", kernels[0])
    assert stopped.returncode == 0, stopped.stderr
    assert kernels[0] not in own_gateway.run_command("kernels", "list").stdout

    unknown = own_gateway.run_command("kernels", "stop", kernels[0])
    assert unknown.returncode != 0
    assert "Traceback" not in unknown.stderr

    assert own_gateway.run_command("kernels", "stop", "--all").returncode == 0
    own_gateway.wait_until_no_kernels()
