"""The engine's JSON, as workloads."""

from typing import Any

import pytest

from enterprise_gateway.services.processproxies.couples import COMPANION_LABEL
from enterprise_gateway.services.processproxies.docker_workloads import (
    AGENT_PORT,
    CLUSTER_LABEL,
    describe_exit,
    is_container_of_cluster,
    is_of_cluster,
    part_of_container,
    part_of_event,
    workload_of_container,
)
from enterprise_gateway.services.processproxies.processproxy import AgentEndpoint, WorkloadState

KERNEL_ID = "00000000-0000-0000-0000-000000000007"


def container(**changes: Any) -> dict[str, Any]:
    """Return an entry of `GET /containers/json`."""
    return {
        "Id": "c0ffee",
        "Names": [f"/ann-{KERNEL_ID}"],
        "Labels": {"kernel_id": KERNEL_ID},
        "State": "running",
        "Status": "Up 3 seconds",
        "Created": 1700000000,
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.5"}}},
        **changes,
    }


def test_running_container_is_a_workload_with_an_endpoint() -> None:
    """Name, user and address are read from the entry."""
    workload = workload_of_container(container(), "bridge")
    assert workload is not None
    assert (workload.kernel_id, workload.username) == (KERNEL_ID, "ann")
    assert workload.state is WorkloadState.RUNNING
    assert workload.endpoint == AgentEndpoint("172.17.0.5", AGENT_PORT)
    assert workload.created == 1700000000


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("created", WorkloadState.STARTING),
        ("restarting", WorkloadState.STARTING),
        ("paused", WorkloadState.RUNNING),
        ("removing", WorkloadState.DEAD),
        ("exited", WorkloadState.DEAD),
        ("dead", WorkloadState.DEAD),
        ("unheard of", WorkloadState.DEAD),
    ],
)
def test_states_of_the_engine_are_mapped(state: str, expected: WorkloadState) -> None:
    """Everything before running is starting, everything after is dead."""
    workload = workload_of_container(container(State=state), "bridge")
    assert workload is not None
    assert workload.state is expected
    assert (workload.endpoint is None) == (state != "paused")


def test_exit_code_is_read_from_the_status() -> None:
    """The list has it in words only."""
    workload = workload_of_container(
        container(State="exited", Status="Exited (3) 2 hours ago"), "x"
    )
    assert workload is not None
    assert workload.exit_reason == "exit code 3"


def test_address_in_another_network_is_better_than_none() -> None:
    """A site's launch script may attach containers elsewhere."""
    networks = {"other": {"IPAddress": "10.0.0.2"}, "empty": {"IPAddress": ""}}
    workload = workload_of_container(container(NetworkSettings={"Networks": networks}), "bridge")
    assert workload is not None
    assert workload.endpoint == AgentEndpoint("10.0.0.2", AGENT_PORT)


def test_container_without_kernel_id_is_no_workload() -> None:
    """The gateway's own container carries the app label, too."""
    assert workload_of_container(container(Labels=None), "bridge") is None


def test_event_is_a_part_in_the_state_it_tells_of() -> None:
    """Events carry labels and name as attributes."""
    attributes = {
        "kernel_id": KERNEL_ID,
        "name": f"ann-{KERNEL_ID}",
        "exitCode": "137",
        COMPANION_LABEL: "k",
    }
    event = {"Actor": {"ID": "c", "Attributes": attributes}, "timeNano": 1_500_000_000}
    part = part_of_event(event, WorkloadState.DEAD)
    workload = part.workload
    assert (part.engine_id, part.companion_of, part.subject) == ("c", "k", "k")
    assert (workload.kernel_id, workload.username, workload.created) == (KERNEL_ID, "ann", 1.5)
    assert workload.state is WorkloadState.DEAD


def test_companion_is_told_by_its_label() -> None:
    """It names the container that it is for."""
    part = part_of_container(container(), "bridge")
    assert part is not None
    assert (part.engine_id, part.companion_of, part.subject) == ("c0ffee", "", "c0ffee")
    labels = {"kernel_id": KERNEL_ID, COMPANION_LABEL: "k"}
    companion = part_of_container(container(Labels=labels), "bridge")
    assert companion is not None
    assert (companion.companion_of, companion.subject) == ("k", "k")


def test_ends_are_put_into_words() -> None:
    """Out of memory is said, since the exit code alone does not."""
    assert describe_exit("137", out_of_memory=True) == "exit code 137 (out of memory)"
    assert describe_exit("137", out_of_memory=False) == "exit code 137 (killed)"
    assert describe_exit("0", out_of_memory=False) == "exit code 0"
    assert describe_exit("", out_of_memory=False) == "it disappeared"


def test_containers_of_another_cluster_are_not_ours() -> None:
    """A gateway lets the kernels of gateways with another secret alone; no label means ours."""
    assert is_of_cluster({CLUSTER_LABEL: "mine"}, "mine")
    assert is_of_cluster({}, "mine")
    assert is_of_cluster(None, "mine")
    assert not is_of_cluster({CLUSTER_LABEL: "theirs"}, "mine")


def test_container_of_a_service_is_none_of_ours() -> None:
    """The service is."""
    labels = {CLUSTER_LABEL: "mine"}
    assert is_container_of_cluster(labels, "mine")
    assert not is_container_of_cluster(labels, "theirs")
    assert not is_container_of_cluster({**labels, "com.docker.swarm.service.id": "x"}, "mine")
