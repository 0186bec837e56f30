"""Gateways that speak TLS with the agents of kernels in containers."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from harness.engines.leftovers import find_kernel_containers, kill_workload
from harness.gateways.gateway import Gateway
from harness.kernels.site_kernels import install_site_kernelspec
from harness.waiting import wait_until

from devtools.images import KERNEL

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

NAME = "python_docker"
AGENT_PORT = 8898


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[list[Gateway]]:
    """Two gateways of one cluster; only the first is told to encrypt."""
    secret = {"EG_CLUSTER_SECRET": secrets.token_hex(32)}
    first = Gateway(tmp_path / "0", env={**secret, "EG_ENCRYPT_AGENT_TRAFFIC": "True"})
    second = Gateway(tmp_path / "1", env=secret, token=first.token, username=first.username)
    try:
        first.start()
        second.start()
        yield [first, second]
    finally:
        first.close()
        second.close()


def test_every_gateway_uses_the_kernel(gateways: list[Gateway]) -> None:
    """WebSockets, interrupts and restarts through either, also after the container was killed."""
    first, second = gateways
    kernel_id = first.start_kernel(NAME)
    for gateway in gateways:
        with closing(gateway.connect(kernel_id)) as channels:
            assert channels.execute("print('x' * 2_000_000)").stdout == "x" * 2_000_000 + "\n"
    with closing(second.connect(kernel_id)) as channels:
        request = channels.start_execution("import time\ntime.sleep(600)")
        channels.receive_until(lambda each: each.type == "execute_input")
        assert first.request("POST", f"/api/kernels/{kernel_id}/interrupt").status_code == 204
        assert channels.finish_execution(request).status == "error"
    assert second.request("POST", f"/api/kernels/{kernel_id}/restart").status_code == 200
    kill_workload(kernel_id)
    wait_until(lambda: first.list_kernels()[kernel_id]["execution_state"] == "dead", what="death")
    assert first.request("POST", f"/api/kernels/{kernel_id}/restart").status_code == 200
    with closing(second.connect(kernel_id)) as channels:
        assert channels.execute("print(6 * 7)").stdout == "42\n"


def test_agent_takes_no_plain_request(gateways: list[Gateway]) -> None:
    """A client in the kernels' network that speaks HTTP gets no answer."""
    kernel_id = gateways[0].start_kernel(NAME)
    (container,) = find_kernel_containers(kernel_id)
    networks = container.attrs["NetworkSettings"]["Networks"]
    address = next(iter(networks.values()))["IPAddress"]
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{address}:{AGENT_PORT}/v1/state", timeout=30)


def test_kernel_without_encryption_stays_usable(gateways: list[Gateway]) -> None:
    """One that a gateway without the setting started is spoken to as it was."""
    first, second = gateways
    kernel_id = second.start_kernel(NAME)
    with closing(first.connect(kernel_id)) as channels:
        assert channels.execute("print(6 * 7)").stdout == "42\n"


def test_launch_that_cannot_be_encrypted_fails(gateways: list[Gateway]) -> None:
    """A site's script that labels no launches: its kernel does not run in plain HTTP unnoticed."""
    first = gateways[0]
    install_site_kernelspec(first.home / "share/jupyter/kernels", "site", KERNEL.tag)
    answer = first.request("POST", "/api/kernels", json={"name": "site"})
    assert answer.status_code == 500
    assert "its traffic would not be encrypted" in answer.json()["message"]
    first.wait_until_no_kernels()
