"""Swarm services as workloads."""

from typing import Any

import msgspec
import pytest

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    AgentEndpoint,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.workloads.containers import AGENT_PORT
from enterprise_gateway.services.processproxies.workloads.services import (
    DEFAULT_LAUNCH_SECONDS,
    describe_wait,
    environment_of,
    is_kept,
    launch_timeout_of,
    newest_tasks,
    workload_of_service,
)
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Node, Service, Task

KERNEL_ID = "00000000-0000-0000-0000-000000000007"
NETWORK = "kernels"


def service(*env: str, memory_bytes: int = 0) -> Service:
    """Return an entry of `GET /services`."""
    template = {
        "ContainerSpec": {"Image": "i", "Env": list(env)},
        "Resources": {"Limits": {"MemoryBytes": memory_bytes}},
    }
    spec = {"Name": f"ann-{KERNEL_ID}", "Labels": {"kernel_id": KERNEL_ID}}
    created = "2026-11-22T15:30:42.941967726Z"
    entry = {"ID": "s1", "CreatedAt": created, "Spec": {**spec, "TaskTemplate": template}}
    return msgspec.convert(entry, Service)


def attachment(network: str, *addresses: str) -> dict[str, Any]:
    """Return an entry of a task's `NetworksAttachments`."""
    return {"Network": {"Spec": {"Name": network}}, "Addresses": list(addresses)}


def task(state: str = "running", desired: str = "running", **changes: Any) -> Task:
    """Return an entry of `GET /tasks`."""
    status = {"State": state, **changes.pop("Status", {})}
    entry = {
        "ServiceID": "s1",
        "CreatedAt": "2026-11-22T15:30:43Z",
        "NodeID": "n1",
        "DesiredState": desired,
        "Status": status,
        "NetworksAttachments": [attachment(NETWORK, "10.0.1.7/24")],
    }
    return msgspec.convert({**entry, **changes}, Task)


def nodes(state: str = "ready") -> dict[str, Node]:
    """Return the node that tasks are on, by id."""
    entry = {"ID": "n1", "Status": {"State": state}, "Description": {"Hostname": "node7"}}
    return {"n1": msgspec.convert(entry, Node)}


def test_running_task_makes_a_workload_with_an_endpoint() -> None:
    """Name, user, time and address are those of service and task."""
    workload = workload_of_service(service(), task(), nodes(), NETWORK)
    assert (workload.kernel_id, workload.username) == (KERNEL_ID, "ann")
    assert workload.state is WorkloadState.RUNNING
    assert workload.endpoint == AgentEndpoint("10.0.1.7", AGENT_PORT)
    assert workload.created == pytest.approx(1795361442.941967, abs=1e-5)
    assert workload.exit_reason == ""


def test_launch_of_a_service_is_in_its_label() -> None:
    """Launch scripts that do not know the label do not set it."""
    assert workload_of_service(service(), task(), nodes(), NETWORK).launch_id == ""
    labels = {"kernel_id": KERNEL_ID, "enterprise-gateway.launch": "5"}
    spec = msgspec.structs.replace(service().spec, labels=labels)
    labelled = msgspec.structs.replace(service(), spec=spec)
    assert workload_of_service(labelled, task(), nodes(), NETWORK).launch_id == "5"


@pytest.mark.parametrize(
    "state", ["new", "pending", "assigned", "accepted", "ready", "preparing", "starting"]
)
def test_everything_before_running_is_starting(state: str) -> None:
    """Swarm has seven states before running."""
    workload = workload_of_service(service(), task(state), nodes(), NETWORK)
    assert workload.state is WorkloadState.STARTING
    assert workload.endpoint is None


def test_service_without_a_task_is_starting() -> None:
    """Swarm creates the task a moment later."""
    workload = workload_of_service(service(), None, {}, NETWORK)
    assert workload.state is WorkloadState.STARTING


FAILED: dict[str, Any] = {"ContainerStatus": {"ExitCode": 3}, "Err": "task: non-zero exit (3)"}
KILLED: dict[str, Any] = {"ContainerStatus": {"ExitCode": 137}, "Err": "task: non-zero exit (137)"}
NO_COMMAND: dict[str, Any] = {"ContainerStatus": {"ExitCode": 127}, "Err": "starting failed: no x"}


@pytest.mark.parametrize(
    ("dead", "reason"),
    [
        (task("complete", "shutdown"), "exit code 0"),
        (task("rejected", "shutdown", Status={"Err": "No such image: x"}), "No such image: x"),
        (task("failed", Status=FAILED), "exit code 3"),
        (task("failed", "shutdown", Status=KILLED), "exit code 137 (killed)"),
        (task("failed", Status=NO_COMMAND), "exit code 127: starting failed: no x"),
        (task("failed", Status={"Err": "it burnt"}), "it burnt"),
        (
            task("running", "shutdown"),
            "the swarm ended its task: node node7 was down, or is being drained",
        ),
        (task("orphaned", "remove"), "the swarm ended its task (orphaned)"),
    ],
)
def test_end_of_a_task_is_that_of_its_workload(dead: Task, reason: str) -> None:
    """The first sign of its end counts, and the reason is reported."""
    workload = workload_of_service(service(), dead, nodes(), NETWORK)
    assert workload.state is WorkloadState.DEAD
    assert workload.endpoint is None
    assert workload.exit_reason.removeprefix("rejected: ") == reason
    is_failed_start = workload.exit_reason.startswith("rejected")
    assert workload.is_tombstone is not (reason == ORDERLY_EXIT or is_failed_start)


@pytest.mark.parametrize(
    ("code", "is_tombstone"), [(1, False), (2, False), (70, True), (143, True)]
)
def test_failed_start_is_no_tombstone(code: int, is_tombstone: bool) -> None:  # noqa: FBT001
    """An agent whose kernel was never ready exits with this code; no client knows that kernel."""
    failed = task("failed", Status={"ContainerStatus": {"ExitCode": code}})
    workload = workload_of_service(service(), failed, nodes(), NETWORK)
    assert workload.exit_reason == f"exit code {code}"
    assert workload.is_tombstone is is_tombstone


def test_task_on_a_node_without_power_is_dead() -> None:
    """Its status stays the node's last report."""
    condemned = task("running", "shutdown")
    workload = workload_of_service(service(), condemned, nodes("down"), NETWORK)
    assert workload.state is WorkloadState.DEAD
    assert workload.exit_reason == "node node7 is down"


@pytest.mark.parametrize("state", ["unknown", "disconnected", "down"])
def test_unknown_state_of_a_node_kills_no_kernel(state: str) -> None:
    """After a restart or a pause of the manager, Swarm still decides about the task."""
    workload = workload_of_service(service(), task("running"), nodes(state), NETWORK)
    assert workload.state is WorkloadState.RUNNING
    assert workload_of_service(service(), task("running"), {}, NETWORK) == workload


def test_memory_limit_is_named_as_what_may_have_killed() -> None:
    """Swarm does not report who killed it."""
    limited = service(memory_bytes=24 << 20)
    workload = workload_of_service(limited, task("failed", Status=KILLED), nodes(), NETWORK)
    assert workload.exit_reason.endswith("(killed), as happens beyond its memory limit of 24 MiB")


def test_address_in_another_network_is_better_than_none() -> None:
    """A site's launch script may attach services elsewhere."""
    attachments = [attachment("empty"), attachment("other", "10.0.2.2/24")]
    elsewhere = task(NetworksAttachments=attachments)
    workload = workload_of_service(service(), elsewhere, nodes(), NETWORK)
    assert workload.endpoint == AgentEndpoint("10.0.2.2", AGENT_PORT)
    nowhere = workload_of_service(service(), task(NetworksAttachments=None), nodes(), NETWORK)
    assert nowhere.endpoint is None


def test_newest_task_counts() -> None:
    """An operator may have updated the service."""
    old = task(CreatedAt="2026-11-22T15:30:43.1Z")
    new = task("starting", CreatedAt="2026-11-22T15:31:43.1Z")
    assert newest_tasks([old, new]) == newest_tasks([new, old]) == {"s1": new}


def test_what_is_waited_for_is_told() -> None:
    """The error of the launch includes it."""
    pending = task("pending", NodeID="", Status={"Err": "no suitable node (x)"})
    assert "no suitable node (x)" in describe_wait(pending, nodes())
    assert "node node7" in describe_wait(task("preparing"), nodes())
    assert describe_wait(task("starting"), nodes()) == "its task is starting."
    assert "has not created a task" in describe_wait(None, {})


def test_launch_deadline_travels_with_the_service() -> None:
    """Any replica can tell when the launch is over."""
    assert launch_timeout_of(service("KERNEL_LAUNCH_TIMEOUT=300")) == 300
    assert launch_timeout_of(service("KERNEL_LAUNCH_TIMEOUT=soon")) == DEFAULT_LAUNCH_SECONDS
    assert launch_timeout_of(service()) == DEFAULT_LAUNCH_SECONDS


@pytest.mark.parametrize(
    ("env", "kept"),
    [
        ((), False),
        (("EG_REMOVE_CONTAINER=False",), True),
        (("EG_REMOVE_CONTAINER=True",), False),
        (("EG_REMOVE_CONTAINER=False", "REMOVE_CONTAINER=true"), False),
    ],
)
def test_service_may_be_kept(env: tuple[str, ...], *, kept: bool) -> None:
    """By the variables that keep containers."""
    assert is_kept(service(*env)) is kept


def test_environment_is_as_the_client_sent_it() -> None:
    """Values that the launch script escaped for Swarm are unescaped."""
    escaped = service('A={{"{{"}}.Node.Hostname}}', "B=c=d", "E")
    assert environment_of(escaped) == {"A": "{{.Node.Hostname}}", "B": "c=d", "E": ""}
