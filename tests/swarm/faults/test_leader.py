"""Of three managers the one that leads loses its power."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from harness.engines.swarm import KERNEL_IMAGE, overlay_network
from harness.gateways.faults import Witness, check_usable, connect_all, placing_on, wait_for_state
from harness.gateways.replica import ReplicaGroup
from harness.waiting import wait_until

from swarmlab.lab import SwarmLab, swarm_lab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

_log = logging.getLogger(__name__)

HEARTBEAT = 5.0
"""A new leader gives nodes six times as long to register, and they try every 8 s at least."""
START_DEADLINE = 120.0
"""An election takes 10 to 20 s with the engine's usual settings."""
DEATH_DEADLINE = 120.0


@pytest.fixture
def managers() -> Iterator[SwarmLab]:
    """A Swarm of managers only; it is led by the last of its nodes."""
    with swarm_lab(3, images=[KERNEL_IMAGE], heartbeat=HEARTBEAT) as lab:
        leader, second, third = lab.nodes
        with closing(leader.client()) as client:
            for node in client.nodes.list():
                node.update({**node.attrs["Spec"], "Role": "manager"})
        for node in (second, third):
            with closing(node.client()) as client:
                wait_until(
                    lambda client=client: client.info()["Swarm"]["ControlAvailable"],
                    what="another manager",
                )
        yield dataclasses.replace(lab, nodes=(second, third, leader))


@pytest.fixture
def group(managers: SwarmLab, tmp_path: Path) -> Iterator[ReplicaGroup]:
    """Replicas on all nodes but that of the leader, each with the engine of its own node."""
    with overlay_network(managers) as network:
        made = ReplicaGroup(tmp_path, managers, network, managers.nodes[:2])
        for replica in made.replicas:
            replica.env["DOCKER_HOST"] = replica.endpoint.node.host
        with made.running():
            yield made


def test_swarm_goes_on_without_its_leader(managers: SwarmLab, group: ReplicaGroup) -> None:
    """Kernels elsewhere are not disturbed, new ones start, those of the leader's node are dead."""
    *others, leader = managers.nodes
    with placing_on(managers, *others):
        kernels = [group.start_kernel() for _ in range(2)]
    with placing_on(managers, leader):
        lost = group.start_kernel()
    clients = connect_all(group, kernels)
    body = {"name": "python_docker", "env": {"KERNEL_USERNAME": group.username}}

    def start() -> str:
        answer = group.request("POST", "/api/kernels", json=body)
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1
            return ""
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    with Witness(group.replicas, kernels) as witness:
        began = time.monotonic()
        leader.power_off()
        for kernel_id, client in clients.items():
            assert client.execute("mine").result == repr(kernel_id)
        added = wait_until(start, deadline=START_DEADLINE, what="a new kernel")
        _log.info("a kernel starts after %.1f s", time.monotonic() - began)
        for replica in group.replicas:
            check_usable(replica, added)
        wait_for_state(group.replicas, [lost], "dead", deadline=DEATH_DEADLINE)
        _log.info("the lost one is dead after %.1f s", time.monotonic() - began)
        assert all(leader.name in each.list_kernels()[lost]["reason"] for each in group.replicas)
    assert witness.denials == []
    for kernel_id in (added, *kernels):
        group.pick().delete_kernel(kernel_id)
