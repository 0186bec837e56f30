"""The cache of a swarm's objects."""

import msgspec
import pytest

from enterprise_gateway.services.processproxies.contract import WorkloadState
from enterprise_gateway.services.processproxies.watch.swarm_cache import SwarmCache
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Node, Service, Task

NETWORK = "kernels"


def service(service_id: str, kernel_id: str = "k") -> Service:
    """Return a kernel's service."""
    labels = {"kernel_id": kernel_id} if kernel_id else {}
    spec = {"Name": f"ann-{kernel_id}", "Labels": labels}
    created = "2026-11-22T15:30:42Z"
    return msgspec.convert({"ID": service_id, "CreatedAt": created, "Spec": spec}, Service)


def task(service_id: str, state: str = "running", second: int = 0, node_id: str = "n1") -> Task:
    """Return a service's task."""
    entry = {
        "ServiceID": service_id,
        "CreatedAt": f"2026-11-22T15:30:{second:02}Z",
        "NodeID": node_id,
        "DesiredState": "running",
        "Status": {"State": state},
    }
    return msgspec.convert(entry, Task)


def node(node_id: str, state: str = "ready") -> Node:
    """Return a node, whose name is its id."""
    entry = {"ID": node_id, "Status": {"State": state}, "Description": {"Hostname": node_id}}
    return msgspec.convert(entry, Node)


@pytest.fixture
def cache() -> SwarmCache:
    """Two services on two nodes."""
    cache = SwarmCache()
    tasks = [task("s1", node_id="n1"), task("s2", node_id="n2")]
    gone = cache.replace([service("s1"), service("s2")], tasks, [node("n1"), node("n2")])
    assert gone == set()
    return cache


def state(cache: SwarmCache, service_id: str) -> WorkloadState:
    """Return the state of a service's workload."""
    return cache.member(service_id, NETWORK).workload.state


def test_list_tells_what_is_gone(cache: SwarmCache) -> None:
    """Events may have been missed."""
    assert cache.replace([service("s2"), service("s3")], [task("s2")], []) == {"s1"}
    assert state(cache, "s2") is WorkloadState.RUNNING
    assert state(cache, "s3") is WorkloadState.STARTING


def test_service_of_no_kernel_is_left_out(cache: SwarmCache) -> None:
    """Other services may carry the labels without a kernel id."""
    assert cache.add_services([service("s4", ""), service("s5")]) == {"s5"}
    assert "s4" not in cache.services


def test_service_is_found_by_its_name(cache: SwarmCache) -> None:
    """Of two services, the later one has the name now."""
    cache.add_services([service("s3", "k2")])
    found = cache.by_name("ann-k"), cache.by_name("ann-k2"), cache.by_name("ann-k3")
    assert [each and each.id for each in found] == ["s2", "s3", None]


def test_task_concerns_its_service_only_if_it_is_news(cache: SwarmCache) -> None:
    """The same task, an older task and one of an unknown service change nothing."""
    assert cache.add_tasks([task("s1", node_id="n1")]) == set()
    assert cache.add_tasks([task("s1", "failed", second=5), task("sX")]) == {"s1"}
    assert state(cache, "s1") is WorkloadState.DEAD
    assert cache.add_tasks([task("s1", second=4)]) == set()


def test_node_concerns_the_services_on_it(cache: SwarmCache) -> None:
    """Services on other nodes are not affected."""
    assert cache.replace_nodes([node("n1", "down"), node("n2")]) == {"s1"}
    assert cache.is_on_down_node("s1")
    assert not cache.is_on_down_node("s2")


def test_dropped_service_concerns_no_service(cache: SwarmCache) -> None:
    """Twice is fine."""
    cache.drop("s1")
    cache.drop("s1")
    assert cache.add_tasks([task("s1", "failed", second=9)]) == set()
    assert cache.replace_nodes([]) == {"s2"}
