"""The replica that is launching a kernel is killed, at several moments."""

import logging
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from enum import Enum
from pathlib import Path

import pytest
import requests
from harness.gateways.faults import (
    SETTLED_DEADLINE,
    check_usable,
    find_tasks,
    find_traces,
    labels_of,
    state_of,
    wait_until_no_trace,
)
from harness.gateways.replica import Replica, ReplicaGroup
from harness.kernels.held import install_held_kernelspec
from harness.waiting import wait_until

from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

_log = logging.getLogger(__name__)


class Moment(Enum):
    """How far the launch has come when the replica dies."""

    SCRIPT_RUNS = "the launch script runs, there is no service yet"
    SERVICE_EXISTS = "the service exists"
    TASK_RUNS = "the task runs, the agent has not reported yet"
    KERNEL_IS_READY = "the kernel is ready, the client has perhaps not been answered"


@pytest.fixture(scope="module")
def group(
    shared_lab: SwarmLab, network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReplicaGroup]:
    """Two replicas on nodes of their own, which are started again after each test."""
    nodes = shared_lab.nodes[:2]
    made = ReplicaGroup(tmp_path_factory.mktemp("launch"), shared_lab, network, nodes)
    for replica in made.replicas:
        install_held_kernelspec(replica)
    with made.running():
        yield made


@pytest.fixture
def kernel_id(lab: SwarmLab) -> Iterator[str]:
    """An id for a kernel, of which nothing is left after the test."""
    chosen = str(uuid.uuid4())
    yield chosen
    wait_until_no_trace(lab, chosen)


def launch(replica: Replica, kernel_id: str, hold: Path) -> int:
    """Ask a replica for a kernel of that id; returns the status code, 0 if it died first."""
    env = {
        "KERNEL_ID": kernel_id,
        "KERNEL_USERNAME": replica.username,
        "KERNEL_HOLD": str(hold),
    }
    body = {"name": "python_held", "env": env}
    try:
        return replica.request("POST", "/api/kernels", json=body).status_code
    except requests.ConnectionError:
        return 0


def has_come(lab: SwarmLab, other: Replica, kernel_id: str, moment: Moment) -> bool:
    """Whether a launch has come so far."""
    if moment is Moment.KERNEL_IS_READY:
        return state_of(other, kernel_id) == "idle"
    with closing(lab.manager.client()) as client:
        if moment is Moment.SERVICE_EXISTS:
            return bool(client.services.list(filters=labels_of(kernel_id)))
        tasks = find_tasks(client, kernel_id)
        return any(task["Status"]["State"] == "running" for task in tasks)


def outcome(lab: SwarmLab, replica: Replica, kernel_id: str) -> str:
    """Return what has become of a kernel, "" as long as that is open."""
    state = state_of(replica, kernel_id)
    if state == "idle":
        return "usable"
    return "gone" if state == "404" and not find_traces(lab, kernel_id) else ""


@pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.name.lower())
def test_kernel_is_usable_or_gone(
    lab: SwarmLab,
    group: ReplicaGroup,
    kernel_id: str,
    moment: Moment,
    tmp_path: Path,
) -> None:
    """Within a minute it is either usable through another replica, or gone without trace."""
    launching, other = group.replicas
    hold = tmp_path / "hold"
    hold.touch()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(launch, launching, kernel_id, hold)
        wait_until(lambda: not hold.exists(), what="the launch script")
        if moment is not Moment.SCRIPT_RUNS:
            hold.with_suffix(".go").touch()
            wait_until(lambda: has_come(lab, other, kernel_id, moment), what=moment.value)
        launching.kill()
        hold.with_suffix(".go").touch()
        status = answer.result()
    killed = time.monotonic()
    if moment is Moment.SCRIPT_RUNS:  # it may end by itself, without a client
        exists = Moment.SERVICE_EXISTS
        wait_until(lambda: has_come(lab, other, kernel_id, exists), what=exists.value)
    became = wait_until(
        lambda: outcome(lab, other, kernel_id), deadline=SETTLED_DEADLINE, what="the outcome"
    )
    _log.info("%s: %d, %s after %.1f s", moment, status, became, time.monotonic() - killed)
    launching.start()
    if became == "gone":
        assert status == 0
        assert state_of(launching, kernel_id) == "404"
        return
    check_usable(other, kernel_id)
    check_usable(launching, kernel_id)
    launching.delete_kernel(kernel_id)
    wait_until(lambda: state_of(other, kernel_id) == "404", what="the other replica's news of it")


def test_all_replicas_die(
    lab: SwarmLab, group: ReplicaGroup, kernel_id: str, tmp_path: Path
) -> None:
    """The same if there is no other replica, but the same ones started again."""
    launching, other = group.replicas
    hold = tmp_path / "hold"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(launch, launching, kernel_id, hold)
        hold.with_suffix(".go").touch()
        wait_until(
            lambda: has_come(lab, other, kernel_id, Moment.TASK_RUNS), what=Moment.TASK_RUNS.value
        )
        for replica in group.replicas:
            replica.kill()
        answer.result()
    group.start()
    became = wait_until(
        lambda: outcome(lab, other, kernel_id), deadline=SETTLED_DEADLINE, what="the outcome"
    )
    if became == "usable":
        check_usable(launching, kernel_id)
        other.delete_kernel(kernel_id)
