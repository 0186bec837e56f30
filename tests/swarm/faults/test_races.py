"""Two replicas act on the same kernel at the same time."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from harness.gateways.faults import (
    check_usable,
    find_tasks,
    find_traces,
    labels_of,
    state_of,
    wait_for_state,
    wait_until_no_trace,
)
from harness.gateways.replica import Replica, ReplicaGroup
from harness.waiting import wait_until

from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

DEATH_DEADLINE = 120.0
LEARNT_DEADLINE = 120.0


def by_both(group: ReplicaGroup, act: Callable[[Replica], int]) -> list[int]:
    """Have both replicas do something at once; returns the status codes, the smaller first."""
    with ThreadPoolExecutor(2) as pool:
        return sorted(pool.map(act, group.replicas))


def post_kernel(replica: Replica, kernel_id: str) -> int:
    """Ask for a kernel of that id; returns the status code."""
    env = {"KERNEL_USERNAME": replica.username, "KERNEL_ID": kernel_id}
    body = {"name": "python_docker", "env": env}
    return replica.request("POST", "/api/kernels", json=body).status_code


def restart(replica: Replica, kernel_id: str) -> int:
    """Restart a kernel; returns the status code."""
    return replica.request("POST", f"/api/kernels/{kernel_id}/restart").status_code


def delete(replica: Replica, kernel_id: str) -> int:
    """Delete a kernel; returns the status code."""
    return replica.request("DELETE", f"/api/kernels/{kernel_id}").status_code


def containers_of(lab: SwarmLab, kernel_id: str) -> list[str]:
    """Return the names of a kernel's containers."""
    return [each for each in find_traces(lab, kernel_id) if " on " in each]


def read_log(lab: SwarmLab, kernel_id: str) -> str:
    """Return what a kernel's agent logged."""
    log = b""
    for node in lab.nodes:
        with closing(node.client()) as client:
            for container in client.containers.list(
                filters=labels_of(kernel_id), ignore_removed=True
            ):
                log += container.logs()
    return log.decode()


def kill_container(lab: SwarmLab, kernel_id: str) -> None:
    """End a kernel's container the hard way."""
    for node in lab.nodes:
        with closing(node.client()) as client:
            for container in client.containers.list(
                filters=labels_of(kernel_id), ignore_removed=True
            ):
                container.kill()


def pause_container(lab: SwarmLab, kernel_id: str) -> None:
    """Have a kernel's container do nothing any more."""
    for node in lab.nodes:
        with closing(node.client()) as client:
            for container in client.containers.list(
                filters=labels_of(kernel_id), ignore_removed=True
            ):
                container.pause()


def test_deleted_by_both(lab: SwarmLab, group: ReplicaGroup) -> None:
    """Each says that it is gone, and it is."""
    kernel_id = group.start_kernel()
    statuses = by_both(group, lambda replica: delete(replica, kernel_id))
    assert statuses in ([204, 204], [204, 404])
    assert [state_of(replica, kernel_id) for replica in group.replicas] == ["404", "404"]
    wait_until_no_trace(lab, kernel_id)


def test_restarted_by_both(lab: SwarmLab, group: ReplicaGroup) -> None:
    """It is restarted once, and its WebSocket goes on."""
    kernel_id = group.start_kernel()
    with closing(group.connect(kernel_id)) as client:
        assert client.execute("before = 1").status == "ok"
        assert by_both(group, lambda replica: restart(replica, kernel_id)) == [200, 200]
        assert client.execute("before").status == "error"
    for replica in group.replicas:
        check_usable(replica, kernel_id)
    wait_for_state(group.replicas, [kernel_id], "idle", deadline=LEARNT_DEADLINE)
    ready = f"kernel {kernel_id}: ready"
    wait_until(lambda: read_log(lab, kernel_id).count(ready) >= 2, what="both starts in the log")
    assert read_log(lab, kernel_id).count(ready) == 2
    group.pick().delete_kernel(kernel_id)


def test_dead_kernel_restarted_by_both(lab: SwarmLab, group: ReplicaGroup) -> None:
    """It is launched once; who came second says so or waits, and does not harm the first."""
    kernel_id = group.start_kernel()
    wait_for_state(group.replicas, [kernel_id], "idle", deadline=LEARNT_DEADLINE)
    kill_container(lab, kernel_id)
    wait_for_state(group.replicas, [kernel_id], "dead", deadline=DEATH_DEADLINE)
    statuses = by_both(group, lambda replica: restart(replica, kernel_id))
    assert statuses[0] == 200
    assert statuses[1] in (200, 409, 503)
    for replica in group.replicas:
        check_usable(replica, kernel_id)

    def states() -> list[str]:
        with closing(lab.manager.client()) as client:
            return [task["DesiredState"] for task in find_tasks(client, kernel_id)]

    # Swarm forgets the dead kernel's task a moment after its service
    wait_until(lambda: states() == ["running"], what="one task")
    group.pick().delete_kernel(kernel_id)
    wait_until_no_trace(lab, kernel_id)


def test_dead_kernel_restarted_at_once(lab: SwarmLab, group: ReplicaGroup) -> None:
    """A replica that has hardly heard of the death takes the new kernel up, with its session."""
    kernel_id = group.start_kernel()
    session = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"id": kernel_id}}
    assert group.request("POST", "/api/sessions", json=session).status_code == 201
    wait_until(
        lambda: all(replica.get("/api/sessions") for replica in group.replicas),
        deadline=LEARNT_DEADLINE,
        what="the session on all replicas",
    )
    kill_container(lab, kernel_id)
    first = group.replicas[0]
    wait_for_state([first], [kernel_id], "dead", deadline=DEATH_DEADLINE)
    assert restart(first, kernel_id) == 200
    for replica in group.replicas:
        check_usable(replica, kernel_id)
    wait_until(
        lambda: all(
            [each["path"] for each in replica.get("/api/sessions")] == ["a.ipynb"]
            for replica in group.replicas
        ),
        deadline=LEARNT_DEADLINE,
        what="the session of the new kernel on all replicas",
    )
    wait_for_state(group.replicas, [kernel_id], "idle", deadline=LEARNT_DEADLINE)
    group.pick().delete_kernel(kernel_id)
    wait_until_no_trace(lab, kernel_id)


def test_deleted_though_its_agent_is_silent(lab: SwarmLab, group: ReplicaGroup) -> None:
    """A kernel that has to be ended by force is gone on all replicas, and dead on none."""
    kernel_id = group.start_kernel()
    pause_container(lab, kernel_id)
    assert delete(group.replicas[0], kernel_id) == 204
    wait_for_state(group.replicas, [kernel_id], "404", deadline=LEARNT_DEADLINE)
    wait_until_no_trace(lab, kernel_id)


def test_deleted_while_another_replica_starts_it(lab: SwarmLab, group: ReplicaGroup) -> None:
    """The start fails, or the kernel is gone right after it; nothing is left."""
    starting, deleting = group.replicas
    kernel_id = str(uuid.uuid4())
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post_kernel, starting, kernel_id)
        wait_until(lambda: delete(deleting, kernel_id) == 204, what="the deletion")
        assert answer.result() in (201, 500)
    wait_for_state(group.replicas, [kernel_id], "404", deadline=LEARNT_DEADLINE)
    wait_until_no_trace(lab, kernel_id)


def test_same_id_started_by_both(lab: SwarmLab, group: ReplicaGroup) -> None:
    """One start succeeds, the other is a conflict; both replicas serve the kernel."""
    kernel_id = str(uuid.uuid4())
    assert by_both(group, lambda replica: post_kernel(replica, kernel_id)) == [201, 409]
    for replica in group.replicas:
        check_usable(replica, kernel_id)
    assert len(containers_of(lab, kernel_id)) == 1
    group.pick().delete_kernel(kernel_id)
    wait_until_no_trace(lab, kernel_id)
