"""The Swarm that the other tests of this folder stand on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import DEVNULL

import pytest
import requests
from harness.engines.leftovers import find_processes
from harness.engines.swarm import KERNEL_IMAGE, NetworkEndpoint, enter_network
from harness.waiting import wait_until

from swarmlab.lab import SwarmLab, swarm_lab
from swarmlab.lock import RUN
from swarmlab.machine import CGROUPS, only_child

pytestmark = pytest.mark.docker

PORT = 8000
MARK = "EGT_LAB_OWNER"


@pytest.fixture(scope="module")
def endpoints(shared_lab: SwarmLab, network: str) -> Iterator[list[NetworkEndpoint]]:
    """A network endpoint on each node."""
    made = [NetworkEndpoint(node, network, PORT, KERNEL_IMAGE) for node in shared_lab.nodes]
    yield made
    for endpoint in made:
        endpoint.close()


@pytest.fixture
def web_server(endpoints: list[NetworkEndpoint]) -> Iterator[str]:
    """A web server on the last node; its URL inside the network."""
    command = endpoints[-1].enter(sys.executable, "-m", "http.server", str(PORT))
    with subprocess.Popen(command, stdout=DEVNULL, stderr=DEVNULL) as process:
        url = f"http://{endpoints[-1].node.ip}:{endpoints[-1].published}"
        wait_until(lambda: is_served(url), what="the web server's first answer")
        yield f"http://{endpoints[-1].ip}:{PORT}"
        os.kill(only_child(process.pid), signal.SIGKILL)


def is_served(url: str) -> bool:
    """Whether something answers there, within a second."""
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


def node_states(lab: SwarmLab) -> dict[str, str]:
    """Return what the manager thinks of each node."""
    with closing(lab.manager.client()) as client:
        return {
            node.attrs["Description"]["Hostname"]: node.attrs["Status"]["State"]
            for node in client.nodes.list()
        }


def test_lab_has_nodes_that_are_ready(lab: SwarmLab) -> None:
    """All are ready, the first is the manager, and each has the kernel image."""
    assert node_states(lab) == {node.name: "ready" for node in lab.nodes}
    for node in lab.nodes:
        with closing(node.client()) as client:
            assert client.info()["Swarm"]["ControlAvailable"] is (node is lab.manager)
            assert client.images.get(KERNEL_IMAGE)


def test_service_runs_on_every_node(lab: SwarmLab) -> None:
    """A global service has a running task on each."""
    with closing(lab.manager.client()) as client:
        service = client.services.create(
            KERNEL_IMAGE,
            ["sleep", "infinity"],
            name="egt-everywhere",
            mode="global",
            stop_grace_period=0,
        )

        def places() -> set[str]:
            return {task["NodeID"] for task in service.tasks() if is_running(task)}

        try:
            wait_until(lambda: len(places()) == len(lab.nodes), what="a task on each node")
        finally:
            service.remove()


def is_running(task: dict[str, dict[str, str]]) -> bool:
    """Whether a task runs."""
    return task["Status"]["State"] == "running"


def test_write_on_one_node_is_not_seen_on_others(lab: SwarmLab) -> None:
    """Nodes share what the layers of an image hold, but no container changes those."""
    change = "sh -c 'echo changed > /etc/hostname; echo changed > /etc/debian_version'"
    seen = []
    for node, command in zip(lab.nodes, [change, *["cat /etc/debian_version"] * 2], strict=True):
        with closing(node.client()) as client:
            seen.append(client.containers.run(KERNEL_IMAGE, command, user="0", remove=True))
    assert seen[0] == b""
    assert b"changed" not in seen[1] + seen[2]
    assert seen[1]


def test_containers_of_different_nodes_reach_each_other(
    endpoints: list[NetworkEndpoint], web_server: str
) -> None:
    """A process in the network of the first node reads from a server on the last."""
    with enter_network(endpoints[0]):
        # nodes tell one another who is in a network, which takes a moment
        wait_until(lambda: is_served(web_server), what="an answer from the last node")
    assert not is_served(web_server), "this machine must not reach the overlay network"


def test_powered_off_node_is_down_and_returns(lab: SwarmLab) -> None:
    """Its processes end at once, the manager sees it go, and it comes back as the same node."""
    node = lab.workers[0]
    with closing(node.client()) as client:
        before = client.info()["Swarm"]["NodeID"]
    node.power_off()
    node.wait_until_down()
    node.power_on()
    with closing(node.client()) as client:
        assert client.info()["Swarm"]["NodeID"] == before
    assert node_states(lab)[node.name] == "ready"


def test_cut_node_is_down_and_returns(lab: SwarmLab) -> None:
    """A node without network goes on, unseen."""
    node = lab.workers[1]
    node.cut()
    node.wait_until_down()
    with closing(node.client()) as client:
        assert client.ping()
    node.mend()
    assert node_states(lab)[node.name] == "ready"


def test_killed_engine_of_the_manager_returns(lab: SwarmLab) -> None:
    """The engine knows its Swarm when it is started again, and the other nodes find it."""
    lab.manager.kill_engine()
    assert not lab.manager.is_ready()
    lab.manager.start_engine()
    for node in lab.workers:
        node.wait_until_ready()


def test_stopped_engine_of_a_worker_returns(lab: SwarmLab) -> None:
    """A worker leaves in an orderly way, and comes back."""
    node = lab.workers[0]
    node.stop_engine()
    node.wait_until_down()
    node.start_engine()
    assert node_states(lab)[node.name] == "ready"


def test_lab_leaves_nothing_even_if_its_owner_is_killed() -> None:
    """The kernel ends the nodes with their owner, and the next lab removes the files."""
    script = (
        "from swarmlab.lab import swarm_lab\n"
        "with swarm_lab(1) as lab:\n"
        "    print(lab.manager.name, flush=True)\n"
        "    input()\n"
    )
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path, MARK: "killed"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        owner.kill()
    tag, _, _ = name.rpartition("-")
    wait_until(lambda: not find_processes(f"{MARK}=killed"), what="end of the node's processes")
    with swarm_lab(1):
        pass
    number = tag.removeprefix("eg-swarm")
    assert not (RUN / number).exists()
    assert not Path(f"/sys/class/net/{tag}").exists()
    assert not [*CGROUPS.glob(f"{tag}-*"), *CGROUPS.glob(f"*/{tag}-*")]
    assert name not in Path("/proc/self/mountinfo").read_text()
