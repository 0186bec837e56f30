"""The swarm as one gateway has last seen it, and what it sweeps away."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.services.processproxies.swarm_broom import (
    DEATH_DELAY,
    FAILURE_DELAY,
    LAUNCH_MARGIN,
    ORDERLY_DELAY,
    SwarmBroom,
)
from enterprise_gateway.services.processproxies.swarm_objects import Node, Service, Task
from enterprise_gateway.services.processproxies.swarm_picture import SwarmPicture

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
def picture() -> SwarmPicture:
    """Two services on two nodes."""
    picture = SwarmPicture()
    tasks = [task("s1", node_id="n1"), task("s2", node_id="n2")]
    gone = picture.replace([service("s1"), service("s2")], tasks, [node("n1"), node("n2")])
    assert gone == set()
    return picture


def state(picture: SwarmPicture, service_id: str) -> WorkloadState:
    """Return the state of a service's workload."""
    return picture.part(service_id, NETWORK).workload.state


def test_list_tells_what_is_gone(picture: SwarmPicture) -> None:
    """Events may have been missed."""
    assert picture.replace([service("s2"), service("s3")], [task("s2")], []) == {"s1"}
    assert state(picture, "s2") is WorkloadState.RUNNING
    assert state(picture, "s3") is WorkloadState.STARTING


def test_service_of_no_kernel_is_left_out(picture: SwarmPicture) -> None:
    """Somebody may use the labels without the kernel's id."""
    assert picture.add_services([service("s4", ""), service("s5")]) == {"s5"}
    assert "s4" not in picture.services


def test_service_is_found_by_its_name(picture: SwarmPicture) -> None:
    """Of two, the one that came later is meant: names are given once."""
    picture.add_services([service("s3", "k2")])
    found = picture.named("ann-k"), picture.named("ann-k2"), picture.named("ann-k3")
    assert [each and each.id for each in found] == ["s2", "s3", None]


def test_task_concerns_its_service_only_if_it_is_news(picture: SwarmPicture) -> None:
    """The same again is none, nor is an older one, nor one of an unknown service."""
    assert picture.add_tasks([task("s1", node_id="n1")]) == set()
    assert picture.add_tasks([task("s1", "failed", second=5), task("sX")]) == {"s1"}
    assert state(picture, "s1") is WorkloadState.DEAD
    assert picture.add_tasks([task("s1", second=4)]) == set()


def test_node_concerns_the_services_on_it(picture: SwarmPicture) -> None:
    """Those on other nodes go on."""
    assert picture.put_nodes([node("n1", "down"), node("n2")]) == {"s1"}
    assert picture.is_on_down_node("s1")
    assert not picture.is_on_down_node("s2")


def test_dropped_service_concerns_nobody(picture: SwarmPicture) -> None:
    """Twice is fine."""
    picture.drop("s1")
    picture.drop("s1")
    assert picture.add_tasks([task("s1", "failed", second=9)]) == set()
    assert picture.put_nodes([]) == {"s2"}


def workload(state: WorkloadState, exit_reason: str = "") -> Workload:
    """Return a workload in a state."""
    return Workload("k", "ann-k", "ann", state, 0.0, exit_reason=exit_reason)


STARTING = workload(WorkloadState.STARTING)
RUNNING = workload(WorkloadState.RUNNING)
ENDED = workload(WorkloadState.DEAD, "exit code 0")
FAILED = workload(WorkloadState.DEAD, "exit code 1")
KILLED = replace(workload(WorkloadState.DEAD, "exit code 137 (killed)"), is_tombstone=True)


def note(broom: SwarmBroom, seen: Workload, now: float, **changes: Any) -> None:
    """Have a broom take note of a service."""
    options = {"launch_timeout": 60.0, "is_kept": False, **changes}
    broom.note("s1", seen, now, **options)


@pytest.mark.parametrize(
    ("seen", "delay"),
    [
        (ENDED, ORDERLY_DELAY),
        (KILLED, DEATH_DELAY),
        (FAILED, FAILURE_DELAY),
        (STARTING, 60.0 + LAUNCH_MARGIN),
    ],
)
def test_service_is_swept_in_its_time(seen: Workload, delay: float) -> None:
    """That which ended in order soon, others when everybody has read why."""
    broom = SwarmBroom()
    note(broom, seen, 100.0)
    note(broom, seen, 101.0)
    assert broom.next_due() == 100.0 + delay
    assert broom.due(100.0 + delay - 0.1) == []
    assert broom.due(100.0 + delay) == ["s1"]


def test_running_service_is_never_swept() -> None:
    """Nor one that came to run late."""
    broom = SwarmBroom()
    note(broom, STARTING, 100.0)
    note(broom, RUNNING, 101.0)
    assert broom.next_due() is None
    note(broom, KILLED, 200.0)
    assert broom.next_due() == 200.0 + DEATH_DELAY


def test_kept_service_is_not_swept() -> None:
    """Unless it never came to run."""
    broom = SwarmBroom()
    note(broom, STARTING, 100.0, is_kept=True)
    assert broom.next_due() is not None
    note(broom, KILLED, 101.0, is_kept=True)
    assert broom.next_due() is None


def test_service_that_could_not_be_removed_is_tried_again() -> None:
    """The engine may be away."""
    broom = SwarmBroom()
    note(broom, ENDED, 100.0)
    broom.postpone("s1", 110.0)
    assert broom.due(109.0) == []
    assert broom.due(110.0) == ["s1"]
    broom.forget("s1")
    broom.postpone("s1", 111.0)
    assert broom.due(200.0) == []
