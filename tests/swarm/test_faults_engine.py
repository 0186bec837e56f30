"""The manager's dockerd is killed, or hangs, while kernels and replicas are on workers."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing

import pytest
import requests
from harness.faults import (
    Witness,
    check_usable,
    connect_all,
    engine_killed,
    engine_stopped,
    heartbeat,
    lasting,
    placing_on,
    wait_for_state,
)
from harness.replica import ReplicaGroup
from harness.waiting import wait_until

from bringup.swarm_lab import SwarmLab
from bringup.swarm_node import SwarmNode

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

USUAL_HEARTBEAT = 5.0
"""Docker's own default."""
LEARNT_DEADLINE = 5.0
RETURN_DEADLINE = 40.0
"""Seconds until a manager that is back has all its nodes."""
ANSWER_DEADLINE = 15.0
"""Seconds until a request that needs the engine is answered without it."""


@pytest.fixture(scope="module")
def group(
    shared_lab: SwarmLab, network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReplicaGroup]:
    """Three replicas on the workers."""
    nodes = [*shared_lab.workers, shared_lab.workers[0]]
    made = ReplicaGroup(tmp_path_factory.mktemp("engine"), shared_lab, network, nodes)
    try:
        made.start()
        yield made
    finally:
        made.close()


def check_refused(answer: requests.Response) -> None:
    """Check that a client is told to try again later."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.elapsed.total_seconds() < ANSWER_DEADLINE


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("fault", "seconds"), [(engine_killed, 10.0), (engine_stopped, 20.0)])
def test_kernels_outlive_the_managers_engine(
    lab: SwarmLab,
    group: ReplicaGroup,
    fault: Callable[[SwarmNode], AbstractContextManager[None]],
    seconds: float,
) -> None:
    """Known kernels can be used meanwhile, the rest is 503; nobody calls a living kernel dead."""
    body = {"name": "python_docker", "env": {"KERNEL_USERNAME": group.username}}
    with heartbeat(lab, USUAL_HEARTBEAT), placing_on(lab, *lab.workers):
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
                endless = clients[interrupted].start_execution("while True: pass")
                clients[interrupted].receive_until(lambda message: message.type == "execute_input")
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
                for each in refused:
                    check_refused(each.result())

            def start() -> str:
                answer = group.request("POST", "/api/kernels", json=body)
                return str(answer.json()["id"]) if answer.status_code == 201 else ""

            added = wait_until(start, deadline=RETURN_DEADLINE, what="a new kernel")
            for replica in group.replicas:
                check_usable(replica, added)
        assert witness.denials == []
    for kernel_id in kernels:
        with closing(clients[kernel_id]) as client:
            assert client.execute("6 * 7").result == "42"
    for kernel_id in (added, *kernels):
        group.pick().delete_kernel(kernel_id)
    group.wait_until_no_kernels()
