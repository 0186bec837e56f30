"""What Swarm says, as workloads: pure functions of its services, tasks and nodes.

A service of ours has one task, which is never replaced. The task's status is what its node last
said of it, and a node without power says nothing: dead is a task that Swarm no longer wants to run,
or whose status is final.
"""

from collections.abc import Iterable, Mapping

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    AgentEndpoint,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.couples import Part
from enterprise_gateway.services.processproxies.docker_workloads import (
    AGENT_PORT,
    SIGKILL_EXIT,
    describe_exit,
    entries_of_environment,
)
from enterprise_gateway.services.processproxies.names import username_of
from enterprise_gateway.services.processproxies.swarm_objects import Node, Service, Task

DEFAULT_LAUNCH_TIMEOUT = 60.0
"""For services whose launch script does not pass KERNEL_LAUNCH_TIMEOUT on."""

REJECTED = "rejected: "
"""The exit reason of a task that its node could not even make a container for begins with it."""
_FINAL = frozenset({"complete", "failed", "rejected", "shutdown", "orphaned", "remove"})
_FAILED_STARTS = ("exit code 1", "exit code 2")
"""The exit reasons of agents whose kernels were never ready, as the wire contract says."""
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


def part_of_service(
    service: Service, task: Task | None, nodes: Mapping[str, Node], network: str
) -> Part:
    """Return what a service is of a kernel; the arguments are those of `workload_of_service`."""
    workload = workload_of_service(service, task, nodes, network)
    return Part(service.id, workload, service.companion_of)


def workload_of_service(
    service: Service, task: Task | None, nodes: Mapping[str, Node], network: str
) -> Workload:
    """Return the workload that a service is.

    Args:
        service: with the label `kernel_id`.
        task: its newest, None if it has none yet.
        nodes: by id.
        network: name of the kernels' network.
    """
    state = _state_of(task)
    exit_reason = ""
    if task and state is WorkloadState.DEAD:
        exit_reason = describe_end(service, task, nodes)
    return Workload(
        kernel_id=service.kernel_id,
        name=service.spec.name,
        username=username_of(service.spec.name, service.kernel_id),
        state=state,
        created=service.created,
        endpoint=_endpoint(task, network) if task and state is WorkloadState.RUNNING else None,
        exit_reason=exit_reason,
        # What is kept beyond that is kept for the operator.
        is_tombstone=_is_worth_telling(exit_reason) and not is_kept(service),
    )


def describe_end(service: Service, task: Task, nodes: Mapping[str, Node]) -> str:
    """Say why a task is dead."""
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
    """Say what a task that does not run yet is waiting for."""
    if task is None:
        return "the swarm has not made a task for its service yet."
    if task.status.state == "pending":
        cause = task.status.err or task.status.message
        return (
            f"the swarm has not found a node for it yet ({cause}). If none fits, add one that "
            "does, or change what service_settings of the launch script asks for."
        )
    if task.status.state == "preparing":
        where = _hostname(task, nodes)
        return f"node {where} is preparing its container (it may be pulling the image)."
    return f"its task is {task.status.state}."


def is_on_down_node(task: Task, nodes: Mapping[str, Node]) -> bool:
    """Whether Swarm is about to give a task up: its node is down.

    It need not come to that. A manager that did nothing for a while takes all nodes for down until
    it has heard of them, and may leave their tasks alone.
    """
    node = nodes.get(task.node_id)
    return node is not None and node.status.state == _DOWN


def launch_timeout_of(service: Service) -> float:
    """Return how many seconds a service may take to run."""
    stated = _environment(service).get("KERNEL_LAUNCH_TIMEOUT", "")
    try:
        return float(stated)
    except ValueError:
        return DEFAULT_LAUNCH_TIMEOUT


def is_kept(service: Service) -> bool:
    """Whether a service is to stay when it has ended, to be looked into."""
    env = _environment(service)
    return env.get("REMOVE_CONTAINER", env.get("EG_REMOVE_CONTAINER", "")).lower() == "false"


def environment_of(service: Service) -> dict[str, str]:
    """Return the environment of a service's container, as the launch script had it.

    The script escapes what Swarm would take for the beginning of a Go template.
    """
    return {
        name.replace(_ESCAPED_OPEN, _OPEN): value.replace(_ESCAPED_OPEN, _OPEN)
        for name, value in _environment(service).items()
    }


def literal(text: str) -> str:
    """Return a text so that Swarm, which expands Go templates, makes the same text of it."""
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


def _is_worth_telling(exit_reason: str) -> bool:
    """Whether a client may have been told of a kernel, and not that it was to end."""
    untold = {"", ORDERLY_EXIT, *_FAILED_STARTS}
    return exit_reason not in untold and not exit_reason.startswith(REJECTED)


def _endpoint(task: Task, network: str) -> AgentEndpoint | None:
    """Return the agent's address in the kernels' network, or else in any that there is."""
    attachments = task.networks_attachments or []
    preferred = [one for one in attachments if one.network.spec.name == network]
    for attachment in [*preferred, *attachments]:
        for address in attachment.addresses or ():
            return AgentEndpoint(host=address.partition("/")[0], port=AGENT_PORT)
    return None
