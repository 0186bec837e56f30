"""Containers as workloads: pure functions of the engine's JSON (API 1.41).

A label that is "" says nothing: launch scripts set all of them, since a container has the labels of
its image besides, which its user may have built.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.resources import usage_of_labels
from enterprise_gateway.services.processproxies.workloads.names import username_of
from enterprise_gateway.services.processproxies.workloads.sidecars import SIDECAR_LABEL, Member
from enterprise_gateway.settings.values.amounts import bytes_text

AGENT_PORT = 8898
"""Where agents in containers listen: `EG_AGENT_LISTEN`'s default."""
KERNEL_LABELS = ("app=enterprise-gateway", "component=kernel")
CLUSTER_LABEL = "enterprise-gateway.cluster"
REMOVE_LABEL = "enterprise-gateway.remove"
"""On containers that gateways remove once they have ended, with any value but ""."""
LAUNCH_LABEL = "enterprise-gateway.launch"
"""The id of the launch. Launch scripts need not set this label."""
POOL_LABEL = "enterprise-gateway.pool"
"""The pool that the kernel was launched for."""
SERVICE_LABEL = "com.docker.swarm.service.id"
"""Set by Swarm on the containers that it creates."""

_STATES = {
    "created": WorkloadState.STARTING,
    "restarting": WorkloadState.STARTING,
    "running": WorkloadState.RUNNING,
    "paused": WorkloadState.RUNNING,
}
_EXIT_CODE = re.compile(r"Exited \((\d+)\)")
SIGKILL_EXIT = 137


def is_of_cluster(labels: Mapping[str, str] | None, cluster_id: str) -> bool:
    """Return whether a workload belongs to this cluster; one without the label, or "", does."""
    return ((labels or {}).get(CLUSTER_LABEL) or cluster_id) == cluster_id


def is_container_of_cluster(labels: Mapping[str, str] | None, cluster_id: str) -> bool:
    """Return whether a container belongs to this cluster, and not to a Swarm service.

    On a node of a swarm the engine lists the containers of services, too, with the same labels.
    """
    return is_of_cluster(labels, cluster_id) and not (labels or {}).get(SERVICE_LABEL)


def entries_of_environment(entries: Iterable[str]) -> dict[str, str]:
    """Return an environment that is given as a list of `NAME=value`."""
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}


def workload_of_container(container: Mapping[str, Any], network: str) -> Workload | None:
    """Return the workload of an entry of `GET /containers/json`, None without a kernel id."""
    kernel_id = (container.get("Labels") or {}).get("kernel_id", "")
    if not kernel_id:
        return None
    name = (container.get("Names") or [""])[0].lstrip("/")
    state = _STATES.get(container.get("State", ""), WorkloadState.DEAD)
    endpoint = None
    if state is WorkloadState.RUNNING:
        endpoint = _endpoint(
            (container.get("NetworkSettings") or {}).get("Networks") or {}, network
        )
    exit_reason = ""
    if state is WorkloadState.DEAD:
        match = _EXIT_CODE.search(container.get("Status", ""))
        exit_reason = describe_exit(match[1] if match else "", out_of_memory=False)
    return Workload(
        kernel_id=kernel_id,
        name=name,
        username=username_of(name, kernel_id),
        state=state,
        created=float(container.get("Created", 0)),
        endpoint=endpoint,
        exit_reason=exit_reason,
        launch_id=(container.get("Labels") or {}).get(LAUNCH_LABEL, ""),
        image=container.get("Image", ""),
        pool=(container.get("Labels") or {}).get(POOL_LABEL, ""),
        usage=usage_of_labels(container.get("Labels") or {}),
        is_paused=container.get("State") == "paused",
    )


def sidecar_of_container(container: Mapping[str, Any]) -> str:
    """Return the id of the kernel's container for a sidecar, else ""."""
    labels: Mapping[str, str] = container.get("Labels") or {}
    return labels.get(SIDECAR_LABEL, "")


def member_of_container(container: Mapping[str, Any], network: str) -> Member | None:
    """Return the member of an entry of `GET /containers/json`, None without a kernel id."""
    workload = workload_of_container(container, network)
    if workload is None:
        return None
    return Member(container["Id"], workload, sidecar_of_container(container))


def member_of_event(event: Mapping[str, Any], state: WorkloadState) -> Member:
    """Return the container that an event is about, in the state that the event implies.

    Its time of creation is that of the event, because events do not carry the former.
    """
    attributes = event["Actor"]["Attributes"]
    kernel_id = attributes.get("kernel_id", "")
    name = attributes.get("name", "")
    workload = Workload(
        kernel_id=kernel_id,
        name=name,
        username=username_of(name, kernel_id),
        state=state,
        created=event.get("timeNano", 0) / 1e9,
        launch_id=attributes.get(LAUNCH_LABEL, ""),
        pool=attributes.get(POOL_LABEL, ""),
        usage=usage_of_labels(attributes),
    )
    return Member(event["Actor"]["ID"], workload, attributes.get(SIDECAR_LABEL, ""))


def describe_exit(exit_code: str, *, out_of_memory: bool, memory_limit: int = 0) -> str:
    """Return the exit reason of a container.

    Args:
        exit_code: "" if it is not known.
        out_of_memory: whether the engine has ended a process in it for want of memory. One that
            ends with 0 all the same has survived that.
        memory_limit: in bytes, 0 if there is none.
    """
    if out_of_memory and exit_code != "0":
        limit = f": the limit is {bytes_text(memory_limit)}" if memory_limit else ""
        return f"exit code {exit_code} (out of memory{limit})"
    if exit_code == str(SIGKILL_EXIT):
        return f"exit code {exit_code} (killed)"
    return f"exit code {exit_code}" if exit_code else "it disappeared"


def _endpoint(networks: Mapping[str, Any], preferred: str) -> AgentEndpoint | None:
    """Return the agent's address in the kernels' network, else in any other network."""
    candidates = [networks[preferred]] if preferred in networks else []
    for attachment in [*candidates, *networks.values()]:
        if attachment.get("IPAddress"):
            return AgentEndpoint(host=attachment["IPAddress"], port=AGENT_PORT)
    return None
