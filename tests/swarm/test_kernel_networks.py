"""What the page on sandboxes says of networks holds, on engines that filter packets."""

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from docker import DockerClient

from devtools.console import wait_until
from devtools.images import KERNEL
from swarmlab.lab import SwarmLab

pytestmark = pytest.mark.docker

CONNECT = """
import socket, sys
with socket.socket() as probe:
    probe.settimeout(3)
    try:
        probe.connect((sys.argv[1], int(sys.argv[2])))
        print("reached")
    except OSError as error:
        print("not", error)
"""
PORT = 8898
METADATA = "169.254.169.254"
RULE = ["DOCKER-USER", "-d", "169.254.0.0/16", "-p", "tcp", "!", "--dport", "53", "-j", "DROP"]


@pytest.fixture
def engine(shared_lab: SwarmLab) -> Iterator[DockerClient]:
    """The engine of the manager."""
    with closing(shared_lab.manager.client()) as client:
        yield client


@contextmanager
def network_of(engine: DockerClient, **options: Any) -> Iterator[list[Any]]:
    """Two containers in a network of their own, in which each answers on the agents' port."""
    network = engine.networks.create("kernels-under-test", **options)
    containers = []
    try:
        for _ in range(2):
            command = ["python3", "-m", "http.server", str(PORT)]
            containers.append(
                engine.containers.run(
                    KERNEL.tag, command, network=network.name, detach=True, cap_drop=["ALL"]
                )
            )
        yield containers
    finally:
        for container in containers:
            container.remove(force=True)
        network.remove()


def address_of(container: Any) -> str:
    """Return a container's address."""
    container.reload()
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def reaches(container: Any, address: str, port: int) -> bool:
    """Return whether code in a container can connect to an address."""
    _, output = container.exec_run(["python3", "-c", CONNECT, address, str(port)])
    return bool(output.decode().strip() == "reached")


def host_reaches(lab: SwarmLab, address: str) -> bool:
    """Return whether a process on the engine's own host, such as a gateway, can."""
    command = lab.manager.machine.enter("python3", "-c", CONNECT, address, str(PORT))
    return (
        subprocess.run(command, capture_output=True, text=True, check=False).stdout == "reached\n"
    )


def until_served(lab: SwarmLab, container: Any) -> None:
    """Wait until a container's server answers."""
    wait_until(lambda: host_reaches(lab, address_of(container)), 60.0, "a server")


@pytest.mark.parametrize("internal", [True, False])
def test_containers_of_a_bridge_without_icc_do_not_reach_each_other(
    shared_lab: SwarmLab, engine: DockerClient, *, internal: bool
) -> None:
    """The gateway, a process of the host, reaches both."""
    apart = {"com.docker.network.bridge.enable_icc": "false"}
    for options, is_reached in (({}, True), (apart, False)):
        with network_of(engine, options=options, internal=internal) as (one, other):
            until_served(shared_lab, one)
            assert reaches(other, address_of(one), PORT) is is_reached


def test_internal_network_leads_nowhere(shared_lab: SwarmLab, engine: DockerClient) -> None:
    """Other machines are out of reach; the host reaches in."""
    outside = shared_lab.nodes[1].ip
    for internal in (False, True):
        with network_of(engine, internal=internal) as (one, _):
            until_served(shared_lab, one)
            assert reaches(one, outside, 2375) is not internal


def test_rule_keeps_kernels_from_the_clouds_metadata(
    shared_lab: SwarmLab, engine: DockerClient
) -> None:
    """The one that the page has; everything else stays as it was."""
    machine = shared_lab.manager.machine
    other = shared_lab.nodes[1].machine
    other.run("ip", "address", "add", f"{METADATA}/32", "dev", "lo")
    machine.run("ip", "route", "add", METADATA, "via", shared_lab.nodes[1].ip)
    server = subprocess.Popen(
        other.enter("python3", "-m", "http.server", "8080", "--bind", METADATA)
    )
    try:
        with network_of(engine) as (one, _):
            wait_until(lambda: reaches(one, METADATA, 8080), 60.0, "the metadata service")
            machine.run("iptables", "-I", *RULE)
            assert not reaches(one, METADATA, 8080)
            assert reaches(one, shared_lab.nodes[1].ip, 2375)
    finally:
        subprocess.run(machine.enter("iptables", "-D", *RULE), check=False)
        machine.run("ip", "route", "del", METADATA)
        other.run("ip", "address", "del", f"{METADATA}/32", "dev", "lo")
        server.kill()
        server.wait()
