"""A worker node loses its power, or its network, with kernels on it."""

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any

import pytest
from harness.clients.channels import Channels
from harness.gateways.faults import (
    SETTLED_DEADLINE,
    Witness,
    check_usable,
    cut_off,
    labels_of,
    placing_on,
    powered_off,
    wait_for_state,
    wait_until_no_trace,
)
from harness.gateways.replica import Replica, ReplicaGroup
from harness.waiting import wait_until

from swarmlab.lab import SwarmLab
from swarmlab.node import SwarmNode

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

_log = logging.getLogger(__name__)

DEATH_DEADLINE = 120.0
"""Generous: three heartbeats of the lab are 3 s, which Swarm counts from the last that it got."""
LEARNT_DEADLINE = 120.0
"""Seconds until all replicas know what one of them did."""
RETURN_DEADLINE = 120.0
"""Seconds until a replica that was away with its node knows what the others know."""


@pytest.fixture(scope="module")
def group(
    shared_lab: SwarmLab, network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReplicaGroup]:
    """Four replicas, the last of them on the last node."""
    first, second, third = shared_lab.nodes
    nodes = [first, second, second, third]
    made = ReplicaGroup(tmp_path_factory.mktemp("nodes"), shared_lab, network, nodes)
    made.replicas[-1].env["DOCKER_HOST"] = shared_lab.manager.tcp_host
    with made.running():
        yield made


def start_kernels(lab: SwarmLab, group: ReplicaGroup, node: SwarmNode, count: int) -> list[str]:
    """Start kernels on a node by way of the replicas in turn."""
    with placing_on(lab, node):
        return [group.start_kernel() for _ in range(count)]


def connect(replicas: Sequence[Replica], kernels: Sequence[str]) -> dict[str, Channels]:
    """Connect to kernels by way of the replicas in turn, and leave something in each kernel."""
    turns = itertools.cycle(replicas)
    clients = {kernel_id: next(turns).connect(kernel_id) for kernel_id in kernels}
    for kernel_id, client in clients.items():
        assert client.execute(f"mine = '{kernel_id}'").status == "ok"
    return clients


def model_of(replica: Replica, kernel_id: str) -> dict[str, Any]:
    """Return what a replica says of a kernel, be it an error."""
    model: dict[str, Any] = replica.request("GET", f"/api/kernels/{kernel_id}").json()
    return model


def find_running(node: SwarmNode, kernels: Sequence[str]) -> list[str]:
    """Return the names of the containers of these kernels that run on a node."""
    with closing(node.client()) as client:
        return [
            container.name
            for kernel_id in kernels
            for container in client.containers.list(
                filters=labels_of(kernel_id), ignore_removed=True
            )
        ]


@pytest.mark.parametrize("fault", [powered_off, cut_off])
def test_kernels_of_a_lost_node_are_dead(
    lab: SwarmLab,
    group: ReplicaGroup,
    fault: Callable[[SwarmNode], AbstractContextManager[None]],
) -> None:
    """All replicas say so and why, others go on; a restart launches anew; nothing lingers."""
    victim = lab.nodes[-1]
    *others, isolated = group.replicas
    lost = start_kernels(lab, group, victim, 3)
    safe = [start_kernels(lab, group, node, 1)[0] for node in lab.nodes[:2]]
    clients = connect(others, [*lost, *safe])
    restarted, deleted, left = lost

    with Witness(others, safe) as witness:
        began = time.monotonic()
        with fault(victim):
            victim.wait_until_down()
            down = time.monotonic()
            wait_for_state(others, lost, "dead", deadline=DEATH_DEADLINE)
            _log.info("down after %.1f s, dead %.1f s later", down - began, time.monotonic() - down)
            for replica in others:
                models = replica.list_kernels()
                assert all(victim.name in models[kernel_id]["reason"] for kernel_id in lost)
            for kernel_id in lost:
                (error,) = clients[kernel_id].execute("1").of_type("error")
                assert victim.name in error.content["evalue"]
            for kernel_id in safe:
                assert clients[kernel_id].execute("mine").result == repr(kernel_id)

            answer = others[0].request("POST", f"/api/kernels/{restarted}/restart")
            assert answer.status_code == 200, answer.text
            wait_for_state(others, [restarted], "idle", deadline=LEARNT_DEADLINE)
            for replica in others:
                check_usable(replica, restarted)

            others[1].delete_kernel(deleted)
            wait_for_state(others, [deleted], "404", deadline=LEARNT_DEADLINE)
    assert witness.denials == []

    if not isolated.is_running:
        isolated.endpoint.restart()
        isolated.start()
    # until then it may know the kernel that it had on its own node, which is idle, too
    wait_until(
        lambda: model_of(isolated, restarted) == model_of(others[0], restarted),
        deadline=RETURN_DEADLINE,
        what="the kernel as the others know it",
    )
    check_usable(isolated, restarted)
    wait_for_state([isolated], [left], "dead", deadline=RETURN_DEADLINE)
    wait_for_state([isolated], [deleted], "404", deadline=RETURN_DEADLINE)
    wait_until(
        lambda: not find_running(victim, lost),
        deadline=SETTLED_DEADLINE,
        what="end of the containers on the node",
    )
    isolated.delete_kernel(left)
    wait_for_state(group.replicas, [left], "404", deadline=LEARNT_DEADLINE)
    for kernel_id in safe:
        with closing(clients[kernel_id]) as client:
            assert client.execute("mine").result == repr(kernel_id)
    for kernel_id in (restarted, *safe):
        group.pick().delete_kernel(kernel_id)
    for kernel_id in (*lost, *safe):
        wait_until_no_trace(lab, kernel_id)
