"""The engine's JSON, as workloads."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from enterprise_gateway.services.processproxies.contract import ORDERLY_EXIT
from enterprise_gateway.services.processproxies.processproxy import AgentEndpoint, WorkloadState
from enterprise_gateway.services.processproxies.resources import Usage
from enterprise_gateway.services.processproxies.workloads.containers import (
    AGENT_PORT,
    CLUSTER_LABEL,
    describe_exit,
    is_container_of_cluster,
    is_of_cluster,
    member_of_container,
    member_of_event,
    workload_of_container,
)
from enterprise_gateway.services.processproxies.workloads.sidecars import SIDECAR_LABEL

LAUNCH_SCRIPT = Path(__file__).parents[4] / "etc/kernel-launchers/docker/scripts/launch_docker.py"
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
    assert workload.launch_id == ""
    labels = {"kernel_id": KERNEL_ID, "enterprise-gateway.launch": "5"}
    labelled = workload_of_container(container(Labels=labels), "bridge")
    assert labelled is not None
    assert labelled.launch_id == "5"


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
    """The list has the exit code only as part of a text."""
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
        SIDECAR_LABEL: "k",
    }
    event = {"Actor": {"ID": "c", "Attributes": attributes}, "timeNano": 1_500_000_000}
    member = member_of_event(event, WorkloadState.DEAD)
    workload = member.workload
    assert (member.engine_id, member.sidecar_of, member.pair) == ("c", "k", ("k", KERNEL_ID))
    assert (workload.kernel_id, workload.username, workload.created) == (KERNEL_ID, "ann", 1.5)
    assert workload.state is WorkloadState.DEAD


def test_sidecar_is_told_by_its_label() -> None:
    """The label names the kernel's container."""
    member = member_of_container(container(), "bridge")
    assert member is not None
    assert (member.sidecar_of, member.pair) == ("", ("c0ffee", KERNEL_ID))
    labels = {"kernel_id": KERNEL_ID, SIDECAR_LABEL: "k"}
    sidecar = member_of_container(container(Labels=labels), "bridge")
    assert sidecar is not None
    assert (sidecar.sidecar_of, sidecar.pair) == ("k", ("k", KERNEL_ID))


def test_label_that_says_nothing_is_no_label() -> None:
    """Launch scripts set them all, so that those of an image do not count."""
    script = runpy.run_path(str(LAUNCH_SCRIPT))
    labels = {**script["NO_LABELS"], script["SERVICE_LABEL"]: "", "kernel_id": KERNEL_ID}
    expected = member_of_container(container(Labels={"kernel_id": KERNEL_ID}), "bridge")
    assert member_of_container(container(Labels=labels), "bridge") == expected
    assert is_container_of_cluster(labels, "mine")
    event = {"Actor": {"ID": "c", "Attributes": labels}}
    member = member_of_event(event, WorkloadState.STARTING)
    assert (member.sidecar_of, member.workload.pool, member.workload.launch_id) == ("", "", "")
    assert member.workload.usage == Usage()


def test_ends_are_put_into_words() -> None:
    """Out of memory is named, because the exit code alone does not show it."""
    assert describe_exit("137", out_of_memory=True) == "exit code 137 (out of memory)"
    limited = describe_exit("137", out_of_memory=True, memory_limit=3 << 29)
    assert limited == "exit code 137 (out of memory: the limit is 1.5 GiB)"
    assert describe_exit("0", out_of_memory=True) == ORDERLY_EXIT
    assert describe_exit("137", out_of_memory=False) == "exit code 137 (killed)"
    assert describe_exit("0", out_of_memory=False) == "exit code 0"
    assert describe_exit("", out_of_memory=False) == "it disappeared"


def test_containers_of_another_cluster_are_not_ours() -> None:
    """Kernels of gateways with another secret are ignored; without the label they are ours."""
    assert is_of_cluster({CLUSTER_LABEL: "mine"}, "mine")
    assert is_of_cluster({}, "mine")
    assert is_of_cluster(None, "mine")
    assert not is_of_cluster({CLUSTER_LABEL: "theirs"}, "mine")


def test_container_of_a_service_is_none_of_ours() -> None:
    """The service is the workload."""
    labels = {CLUSTER_LABEL: "mine"}
    assert is_container_of_cluster(labels, "mine")
    assert not is_container_of_cluster(labels, "theirs")
    assert not is_container_of_cluster({**labels, "com.docker.swarm.service.id": "x"}, "mine")
