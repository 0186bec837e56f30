"""Pools of Swarm services, which several replicas share."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from harness.engines.swarm import remove_services
from harness.gateways.replica import Replica, ReplicaGroup
from harness.waiting import wait_until

from enterprise_gateway.services.processproxies.contract import POOL_USERNAME
from enterprise_gateway.services.processproxies.workloads.swarm_objects import OWNER_LABEL
from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

NAME = "python_docker"
SIZE = 2
FILLED_SECONDS = 180.0
SHOW = "import os; print(os.environ['KERNEL_USERNAME'])"


@pytest.fixture
def pair(lab: SwarmLab, network: str, tmp_path: Path) -> Iterator[ReplicaGroup]:
    """Two replicas on two nodes, with a pool."""
    group = ReplicaGroup(
        tmp_path, lab, network, lab.nodes[:2], env={"EG_POOL_SIZES": f"{NAME}={SIZE}"}
    )
    try:
        group.start()
        yield group
    finally:
        group.close()
        remove_services(lab, POOL_USERNAME)


def is_full(replica: Replica) -> bool:
    """Say whether the pool is full, as a replica sees it."""
    metrics = replica.request("GET", "/metrics").text
    return f'eg_pool_ready{{kernel_name="{NAME}"}} {SIZE}.0' in metrics


def start(replica: Replica, user: str) -> requests.Response:
    """Start a kernel of the pool's kernelspec."""
    body = {"name": NAME, "env": {"KERNEL_USERNAME": user}}
    return replica.request("POST", "/api/kernels", json=body)


def test_service_is_its_users_for_every_replica(pair: ReplicaGroup, lab: SwarmLab) -> None:
    """It has a label with the user, its task goes on, and another replica ends it."""
    wait_until(
        lambda: all(map(is_full, pair.replicas)), deadline=FILLED_SECONDS, what="a full pool"
    )
    one, other = pair.replicas
    answer = start(one, pair.username)
    assert answer.status_code == 201, answer.text
    assert set(answer.json()["start"]["steps"]) == {"admission", "pool"}
    kernel_id = answer.json()["id"]
    with closing(lab.manager.client()) as client:
        (service,) = client.services.list(filters={"label": f"kernel_id={kernel_id}"})
        assert service.attrs["Spec"]["Labels"][OWNER_LABEL] == pair.username
        assert len(service.tasks()) == 1
    wait_until(lambda: other.list_kernels().keys() == {kernel_id}, what="the other's list")
    with closing(other.connect(kernel_id)) as channels:
        assert channels.execute(SHOW).stdout == f"{pair.username}\n"
    answers = [start(replica, pair.username) for replica in pair.replicas for _ in range(SIZE)]
    assert len({answer.json()["id"] for answer in answers} | {kernel_id}) == 2 * SIZE + 1
    for answer in answers:
        other.delete_kernel(answer.json()["id"])
    assert other.request("DELETE", f"/api/kernels/{kernel_id}").status_code == 204
    wait_until(
        lambda: all(map(is_full, pair.replicas)), deadline=FILLED_SECONDS, what="a full pool"
    )
    counted = re.findall(r'eg_pool_starts_total\{.*outcome="taken"\} (\S+)', metrics_of(pair))
    assert sum(map(float, counted)) >= SIZE


def metrics_of(pair: ReplicaGroup) -> str:
    """Return the metrics of all replicas."""
    return "\n".join(replica.request("GET", "/metrics").text for replica in pair.replicas)
