"""`kill -9` of the gateway under starts: a kernel is some client's, or it is gone."""

import contextlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from harness.engines.leftovers import find_containers, find_processes
from harness.gateways.gateway import Gateway
from harness.kernels.kernelspecs import derive_kernelspec
from harness.waiting import wait_until

pytestmark = [pytest.mark.kernel]

STARTS = 6
CLAIM_SECONDS = 5
CLAIMED_SOON = "claimed_soon"
END_DEADLINE = 150.0
"""Seconds until a kernel has ended whose gateway is dead, or that no client claims."""


def workloads(gateway: Gateway) -> list[object]:
    """Return what is there of the kernels of a gateway's user."""
    return [*find_containers(gateway.username), *find_processes(gateway.kernel_marker)]


def add_local_kernelspec(gateway: Gateway) -> None:
    """Give a gateway a kernelspec of local kernels which are to be claimed soon."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "language": "python",
        "metadata": {"process_proxy": {"config": {"claim_timeout": CLAIM_SECONDS}}},
    }
    folder = gateway.home / "share/jupyter/kernels" / CLAIMED_SOON
    folder.mkdir()
    (folder / "kernel.json").write_text(json.dumps(spec))


@pytest.fixture
def pair(tmp_path: Path, short_delays: dict[str, str]) -> Iterator[tuple[Gateway, Gateway]]:
    """Two running gateways on one engine."""
    env = {
        **short_delays,
        "EG_CLUSTER_SECRET": "shared-by-two-gateways",
    }
    one = Gateway(tmp_path / "0", env=env)
    other = Gateway(tmp_path / "1", env=env, token=one.token, username=one.username)
    with contextlib.ExitStack() as stack:
        for gateway in (one, other):
            stack.callback(gateway.close)
        for gateway in (one, other):
            derive_kernelspec(
                gateway.home / "share/jupyter/kernels",
                "python_docker",
                CLAIMED_SOON,
                config={"claim_timeout": CLAIM_SECONDS},
            )
            gateway.start()
        yield one, other


def start_and_kill(gateway: Gateway, answers: int) -> set[str]:
    """Kill a gateway under six starts, after some answers; return the kernels that were answered.

    Their clients do nothing with them.
    """
    answered: list[str] = []

    def start() -> None:
        with contextlib.suppress(requests.ConnectionError):
            answered.append(gateway.start_kernel(CLAIMED_SOON))

    with ThreadPoolExecutor(STARTS) as pool:
        starts = [pool.submit(start) for _ in range(STARTS)]
        wait_until(
            lambda: len(answered) >= answers and len(workloads(gateway)) > answers,
            deadline=60,
            what="starts under way",
        )
        gateway.kill()
    for each in starts:
        each.result()
    return set(answered)


@pytest.mark.docker
@pytest.mark.parametrize("answers", [0, 1, 3])
def test_kernels_of_a_killed_gateway_are_their_clients_or_gone(
    pair: tuple[Gateway, Gateway], answers: int
) -> None:
    """Another replica has seen all of them, and lists at any time only what was answered."""
    one, other = pair
    answered = start_and_kill(one, answers)
    listed: set[str] = set()

    def is_settled() -> bool:
        listed.update(other.list_kernels())
        kernels = set(other.list_kernels())
        return kernels <= answered and len(find_containers(one.username)) == len(kernels)

    wait_until(is_settled, deadline=END_DEADLINE, what="end of the kernels without a client")
    assert listed <= answered
    for kernel_id in other.list_kernels():
        other.delete_kernel(kernel_id)
    other.wait_until_no_kernels()


def test_gateway_that_restarts_keeps_nothing_alive(own_gateway: Gateway) -> None:
    """Local kernels: that it follows what it finds is no client's request."""
    add_local_kernelspec(own_gateway)
    answered = start_and_kill(own_gateway, 1)
    own_gateway.start()
    listed: set[str] = set()

    def is_settled() -> bool:
        listed.update(own_gateway.list_kernels())
        return set(own_gateway.list_kernels()) == agents(own_gateway)

    wait_until(is_settled, deadline=END_DEADLINE, what="end of the kernels without a client")
    assert listed <= answered
    for kernel_id in own_gateway.list_kernels():
        own_gateway.delete_kernel(kernel_id)
    own_gateway.wait_until_no_kernels()


def agents(gateway: Gateway) -> set[str]:
    """Return the ids of the local kernels that run."""
    ids = set()
    for pid in find_processes(gateway.kernel_marker):
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
            ids |= {
                entry.partition("=")[2] for entry in environment if entry.startswith("KERNEL_ID=")
            }
    return ids


@pytest.mark.docker
def test_client_that_comes_in_time_keeps_its_kernel(pair: tuple[Gateway, Gateway]) -> None:
    """It knows the id, which it chose, and asks another replica once its own is gone."""
    one, other = pair
    kernel_id = other.start_kernel(CLAIMED_SOON)
    one.kill()
    with contextlib.closing(other.connect(kernel_id)) as client:
        assert client.execute("1 + 1").result == "2"
    assert kernel_id in other.list_kernels()
