"""Swarm services as workloads: pure functions of services, tasks and nodes.

A kernel's service has one task, which is never replaced. The task's status is the last report of
its node, and a node without power reports nothing: a task is dead if Swarm no longer wants it to
run, or if its status is final.
"""

from collections.abc import Iterable, Mapping

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    AgentEndpoint,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.resources import usage_of_labels
from enterprise_gateway.services.processproxies.workloads.containers import (
    AGENT_PORT,
    SIGKILL_EXIT,
    describe_exit,
    entries_of_environment,
)
from enterprise_gateway.services.processproxies.workloads.names import username_of
from enterprise_gateway.services.processproxies.workloads.sidecars import Member
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Node, Service, Task

DEFAULT_LAUNCH_SECONDS = 60.0
"""Seconds, for services whose launch script does not pass KERNEL_LAUNCH_TIMEOUT on."""

REJECTED = "rejected: "
"""How the exit reason of a task begins whose node could not create its container."""
PREPARING = "is preparing its container"
"""Part of what a task waits for whose node may be pulling the image."""
_FINAL = frozenset({"complete", "failed", "rejected", "shutdown", "orphaned", "remove"})
_FAILED_STARTS = ("exit code 1", "exit code 2")
"""The exit reasons of agents whose kernels were never ready (docs/agent-interface.md)."""
_WANTED = "running"
_DOWN = "down"
_OPEN = "{{"
_ESCAPED_OPEN = '{{"{{"}}'


def newest_tasks(tasks: Iterable[Task]) -> dict[str, Task]:
    """Return the newest task of each service, by the service's id."""
    newest: dict[str, Task] = {}
    for task in tasks:
        known = newest.get(task.service_id)
        if known is None or known.created_at <= task.created_at:
            newest[task.service_id] = task
    return newest


def member_of_service(
    service: Service, task: Task | None, nodes: Mapping[str, Node], network: str
) -> Member:
    """Return a service as a member of its pair; arguments as for `workload_of_service`."""
    workload = workload_of_service(service, task, nodes, network)
    return Member(service.id, workload, service.sidecar_of)


def workload_of_service(
    service: Service, task: Task | None, nodes: Mapping[str, Node], network: str
) -> Workload:
    """Return the workload of a service.

    Args:
        service: with the label `kernel_id`.
        task: its newest task, None if it has none yet.
        nodes: the nodes of the swarm by id.
        network: name of the kernels' network.
    """
    state = _state_of(task)
    exit_reason = ""
    if task and state is WorkloadState.DEAD:
        exit_reason = describe_end(service, task, nodes)
    return Workload(
        kernel_id=service.kernel_id,
        name=service.spec.name,
        username=service.owner or username_of(service.spec.name, service.kernel_id),
        state=state,
        created=service.created,
        endpoint=_endpoint(task, network) if task and state is WorkloadState.RUNNING else None,
        exit_reason=exit_reason,
        launch_id=service.launch_id,
        pool=service.pool,
        usage=usage_of_labels(service.spec.labels or {}),
        # A service that is kept is kept for the operator.
        is_tombstone=_is_unexpected(exit_reason) and not is_kept(service),
        # Swarm appends the digest that the registry returned for the tag.
        image=service.spec.task_template.container_spec.image.partition("@")[0],
        node=_hostname(task, nodes) if task is not None else "",
    )


def describe_end(service: Service, task: Task, nodes: Mapping[str, Node]) -> str:
    """Return why a task is dead."""
    status = task.status
    if status.state == "complete":
        return ORDERLY_EXIT
    if status.state == "rejected":
        return f"{REJECTED}{status.err or status.message}"
    if status.state not in _FINAL:
        return _describe_loss(task, nodes)
    exit_code = status.container_status.exit_code if status.container_status else 0
    if exit_code:
        reason = describe_exit(str(exit_code), out_of_memory=False)
        limit = service.spec.task_template.resources.limits.memory_bytes
        if exit_code == SIGKILL_EXIT and limit:
            return f"{reason}, as happens beyond its memory limit of {limit >> 20} MiB"
        cause = status.err.removeprefix(f"task: non-zero exit ({exit_code})").lstrip(": ")
        return f"{reason}: {cause}" if cause else reason
    return status.err or f"the swarm ended its task ({status.state})"


def describe_wait(task: Task | None, nodes: Mapping[str, Node]) -> str:
    """Return a sentence about what a task that does not run yet is waiting for."""
    if task is None:
        return "the swarm has not created a task for its service yet."
    if task.status.state == "pending":
        cause = task.status.err or task.status.message
        return (
            f"the swarm has not found a node for it yet ({cause}). If none fits, add one that "
            "does, or change what service_settings of the launch script asks for."
        )
    if task.status.state == "new":
        return "the swarm has not given its task an address in the kernels' network yet."
    if task.status.state == "preparing":
        where = _hostname(task, nodes)
        return f"node {where} {PREPARING} (it may be pulling the image)."
    return f"its task is {task.status.state}."


def is_on_down_node(task: Task, nodes: Mapping[str, Node]) -> bool:
    """Return whether the node of a task is down, so that Swarm may give the task up.

    It may also not: a manager that was paused regards all nodes as down until they report, and may
    leave their tasks alone.
    """
    node = nodes.get(task.node_id)
    return node is not None and node.status.state == _DOWN


def launch_timeout_of(service: Service) -> float:
    """Return how many seconds a service may take to start."""
    stated = _environment(service).get("KERNEL_LAUNCH_TIMEOUT", "")
    try:
        return float(stated)
    except ValueError:
        return DEFAULT_LAUNCH_SECONDS


def is_kept(service: Service) -> bool:
    """Return whether a service is kept for inspection when it has ended."""
    env = _environment(service)
    return env.get("REMOVE_CONTAINER", env.get("EG_REMOVE_CONTAINER", "")).lower() == "false"


def environment_of(service: Service) -> dict[str, str]:
    """Return the environment of a service's container as the launch script received it.

    The script escapes the beginning of Go templates, which Swarm would expand.
    """
    return {
        name.replace(_ESCAPED_OPEN, _OPEN): value.replace(_ESCAPED_OPEN, _OPEN)
        for name, value in _environment(service).items()
    }


def literal(text: str) -> str:
    """Escape a text so that Swarm, which expands Go templates, leaves it as it is."""
    return text.replace(_OPEN, _ESCAPED_OPEN)


def _environment(service: Service) -> dict[str, str]:
    return entries_of_environment(service.spec.task_template.container_spec.env or ())


def _state_of(task: Task | None) -> WorkloadState:
    if task is None:
        return WorkloadState.STARTING
    status = task.status.state
    if status in _FINAL or task.desired_state != _WANTED:
        return WorkloadState.DEAD
    return WorkloadState.RUNNING if status == "running" else WorkloadState.STARTING


def _describe_loss(task: Task, nodes: Mapping[str, Node]) -> str:
    host = _hostname(task, nodes)
    if is_on_down_node(task, nodes):
        return f"node {host} is down"
    return f"the swarm ended its task: node {host} was down, or is being drained"


def _hostname(task: Task, nodes: Mapping[str, Node]) -> str:
    node = nodes.get(task.node_id)
    return node.description.hostname if node is not None else task.node_id


def _is_unexpected(exit_reason: str) -> bool:
    """Return whether a kernel that may have been in use ended without being asked to."""
    expected = {"", ORDERLY_EXIT, *_FAILED_STARTS}
    return exit_reason not in expected and not exit_reason.startswith(REJECTED)


def _endpoint(task: Task, network: str) -> AgentEndpoint | None:
    """Return the agent's address in the kernels' network, else in any other network."""
    attachments = task.networks_attachments or []
    preferred = [one for one in attachments if one.network.spec.name == network]
    for attachment in [*preferred, *attachments]:
        for address in attachment.addresses or ():
            return AgentEndpoint(host=address.partition("/")[0], port=AGENT_PORT)
    return None
