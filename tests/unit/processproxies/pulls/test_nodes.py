"""Which nodes of a Swarm wait for an image, and which do not have it."""

import pytest

from enterprise_gateway.services.processproxies.pulls.nodes import describe_failure, find_waiting
from enterprise_gateway.services.processproxies.workloads.swarm_objects import (
    Node,
    NodeDescription,
    NodeSpec,
    NodeStatus,
    Task,
    TaskStatus,
)

NODES = [
    Node(id=name, status=NodeStatus("ready"), description=NodeDescription(f"host-{name}"))
    for name in ("a", "b", "c")
]


def task(node: str, state: str, err: str = "") -> Task:
    """Return the task of a node."""
    status = TaskStatus(state, err=err)
    return Task(
        created_at="", service_id="s", desired_state="complete", status=status, node_id=node
    )


@pytest.mark.parametrize("state", ["complete", "failed", "running", "starting", "rejected"])
def test_node_is_done_once_its_task_is_past_the_pull(state: str) -> None:
    """A task that could not start or be run has its image, or never will."""
    assert find_waiting(NODES[:1], [task("a", state)]) == []


def test_nodes_without_a_task_are_waited_for() -> None:
    """Swarm makes the tasks of a service one after the other."""
    waiting = find_waiting(NODES, [task("a", "complete"), task("b", "preparing")])
    assert [node.id for node in waiting] == ["b", "c"]


def test_failure_names_nodes_and_reasons() -> None:
    """Nodes that were refused the image, and those that were too slow."""
    refused = task("b", "rejected", "No such image: x")
    tasks = [task("a", "complete"), refused, refused, task("b", "preparing"), task("c", "pending")]
    words = describe_failure("x", NODES, tasks, 5.0)
    assert "2 of 3 nodes: host-b: No such image: x; host-c: not within 5 s" in words


def test_image_on_all_nodes_is_no_failure() -> None:
    """A task whose command is missing in the image has it all the same."""
    tasks = [task("a", "complete"), task("b", "failed", "no /bin/true"), task("c", "running")]
    assert describe_failure("x", NODES, tasks, 5.0) == ""


@pytest.mark.parametrize(
    ("state", "availability"), [("ready", "drain"), ("ready", "pause"), ("down", "active")]
)
def test_only_nodes_that_take_tasks_count(state: str, availability: str) -> None:
    """A node that is drained or away is asked for nothing."""
    assert not Node(id="n", status=NodeStatus(state), spec=NodeSpec(availability)).takes_tasks
    assert NODES[0].takes_tasks
