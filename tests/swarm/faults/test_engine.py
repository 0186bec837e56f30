"""The manager's dockerd is killed, or hangs, while kernels and replicas are on workers."""

import logging
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing

import pytest
import requests
from harness.clients.cells import is_output_of
from harness.gateways.faults import (
    Witness,
    check_usable,
    connect_all,
    engine_killed,
    engine_stopped,
    find_tasks,
    heartbeat,
    lasting,
    placing_on,
    wait_for_state,
)
from harness.gateways.replica import ReplicaGroup
from harness.waiting import wait_until

from swarmlab.lab import SwarmLab
from swarmlab.node import SwarmNode

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

_log = logging.getLogger(__name__)

HEARTBEAT = 30.0
"""A manager takes nodes for down, and ends tasks that live, three heartbeats after the last sign of
life, which was up to one heartbeat before dockerd went away: two must be longer than it is away.
"""
SHORT_HEARTBEAT = 5.0
LEARNT_DEADLINE = 120.0
RETURN_DEADLINE = 120.0
"""Seconds until a manager that is back has all its nodes."""


@pytest.fixture(scope="module")
def group(
    shared_lab: SwarmLab, network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReplicaGroup]:
    """Three replicas on the workers."""
    nodes = [*shared_lab.workers, shared_lab.workers[0]]
    made = ReplicaGroup(tmp_path_factory.mktemp("engine"), shared_lab, network, nodes)
    with made.running():
        yield made


def is_wanted(lab: SwarmLab, kernel_id: str) -> bool:
    """Whether the swarm means a kernel to go on."""
    with closing(lab.manager.client()) as client:
        return all(task["DesiredState"] == "running" for task in find_tasks(client, kernel_id))


def try_start(group: ReplicaGroup) -> str:
    """Start a kernel; returns its id, "" as long as that is refused."""
    body = {"name": "python_docker", "env": {"KERNEL_USERNAME": group.username}}
    answer = group.request("POST", "/api/kernels", json=body)
    return str(answer.json()["id"]) if answer.status_code == 201 else ""


def test_manager_that_hangs_for_long(lab: SwarmLab, group: ReplicaGroup) -> None:
    """It takes its nodes for down and ends some kernels: those are dead, and only those."""
    with heartbeat(lab, SHORT_HEARTBEAT), placing_on(lab, *lab.workers):
        kernels = [group.start_kernel() for _ in range(4)]
        with engine_stopped(lab.manager), lasting(4 * SHORT_HEARTBEAT):
            pass
        for node in lab.workers:
            node.wait_until_ready()
        # the manager decides about its nodes before it starts anything
        kernels.append(
            wait_until(lambda: try_start(group), deadline=RETURN_DEADLINE, what="a new kernel")
        )
    alive = [kernel_id for kernel_id in kernels if is_wanted(lab, kernel_id)]
    ended = [kernel_id for kernel_id in kernels if kernel_id not in alive]
    _log.info("%d of %d kernels live", len(alive), len(kernels))
    wait_for_state(group.replicas, ended, "dead", deadline=RETURN_DEADLINE)
    for replica in group.replicas:
        for kernel_id in alive:
            check_usable(replica, kernel_id)
    wait_for_state(group.replicas, alive, "idle", deadline=LEARNT_DEADLINE)
    for kernel_id in kernels:
        group.pick().delete_kernel(kernel_id)
    group.wait_until_no_kernels()


def check_refused(answer: requests.Response) -> None:
    """Check that a client is told to try again later."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(("fault", "seconds"), [(engine_killed, 10.0), (engine_stopped, 20.0)])
def test_kernels_outlive_the_managers_engine(
    lab: SwarmLab,
    group: ReplicaGroup,
    fault: Callable[[SwarmNode], AbstractContextManager[None]],
    seconds: float,
) -> None:
    """Known kernels can be used meanwhile, the rest is 503; no living kernel is called dead."""
    body = {"name": "python_docker", "env": {"KERNEL_USERNAME": group.username}}
    with heartbeat(lab, HEARTBEAT), placing_on(lab, *lab.workers):
        kernels = [group.start_kernel() for _ in range(4)]
        clients = connect_all(group, kernels)
        wait_for_state(group.replicas, kernels, "idle", deadline=LEARNT_DEADLINE)
        with Witness(group.replicas, kernels) as witness:
            with fault(lab.manager), lasting(seconds), ThreadPoolExecutor() as pool:
                refused = [
                    *(
                        pool.submit(each.request, "POST", "/api/kernels", json=body)
                        for each in group.replicas
                    ),
                    *(
                        pool.submit(each.request, "GET", f"/api/kernels/{uuid.uuid4()}")
                        for each in group.replicas
                    ),
                ]
                interrupted, restarted, *others = kernels
                endless = clients[interrupted].start_execution("print('on')\nwhile True: pass")
                clients[interrupted].receive_until(is_output_of(endless))
                answer = group.request("POST", f"/api/kernels/{interrupted}/interrupt")
                assert answer.status_code == 204, answer.text
                assert clients[interrupted].finish_execution(endless).status == "error"
                answer = group.request("POST", f"/api/kernels/{restarted}/restart")
                assert answer.status_code == 200, answer.text
                for kernel_id in others:
                    assert clients[kernel_id].execute("mine").result == repr(kernel_id)
                    for replica in group.replicas:
                        check_usable(replica, kernel_id)
                assert all(set(kernels) <= set(each.list_kernels()) for each in group.replicas)
                for each in refused:  # all are answered while the engine is away
                    check_refused(each.result())
            added = wait_until(
                lambda: try_start(group), deadline=RETURN_DEADLINE, what="a new kernel"
            )
            for replica in group.replicas:
                check_usable(replica, added)
        assert witness.denials == []
    for kernel_id in kernels:
        with closing(clients[kernel_id]) as client:
            assert client.execute("6 * 7").result == "42"
    for kernel_id in (added, *kernels):
        group.pick().delete_kernel(kernel_id)
    group.wait_until_no_kernels()
