"""The launch of a kernel as a Swarm service: what its task waits for, and why it fails."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Collection, Iterable

from enterprise_gateway.errors import ConflictError, GatewayError, LaunchError, NotFoundError
from enterprise_gateway.services.processproxies.contract import WorkloadState
from enterprise_gateway.services.processproxies.engine.network import KernelNetwork
from enterprise_gateway.services.processproxies.engine.services import DockerServices
from enterprise_gateway.services.processproxies.launch.progress import (
    MORE_MEMORY,
    OUTPUT_TAIL_BYTES,
    OUTPUT_TAIL_LINES,
    LaunchProgress,
    explain_sidecars_death,
)
from enterprise_gateway.services.processproxies.steps import StepRecorder
from enterprise_gateway.services.processproxies.workloads.services import (
    PREPARING,
    REJECTED,
    newest_tasks,
)
from enterprise_gateway.services.processproxies.workloads.sidecar_specs import Sidecar, service_spec
from enterprise_gateway.services.processproxies.workloads.sidecars import (
    SIDECAR_ENDED,
    Observation,
)
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Task

NO_ADDRESS = "the swarm has no address for it"
"""How the reason of a launch in a full network begins."""
_UNADDRESSED = frozenset({"new", "preparing"})
_UNSEEN_ADDRESSES = 2
"""A gateway that is a container of the network has one, and so has its node: Swarm lists no task
for them.
"""
_FIRST_CHECK_SECONDS = 5.0
"""How long a task may be starting before it is checked for a missing address; each further check
waits twice as long. Swarm assigns addresses within milliseconds, pulling an image may take minutes,
and each check lists all tasks.
"""
_NO_SHELL = 'exec: "/bin/sh"'
"""Part of a node's error if the image has no shell, the injected agent's entry point."""


async def create_sidecar_service(services: DockerServices, sidecar: Sidecar) -> None:
    """Create a sidecar's service.

    Raises:
        LaunchError: the swarm refuses.
        UnavailableError: the manager does not answer.
    """
    spec = service_spec(sidecar)
    try:
        try:
            await services.create(spec)
        except ConflictError:  # left over from an earlier launch of the kernel
            await services.remove(sidecar.name)
            await services.create(spec)
    except (ConflictError, NotFoundError) as exc:
        raise LaunchError(f"it needs a sidecar, which the swarm refused: {exc}") from exc


class ServiceLaunch(LaunchProgress):
    """The observer of the launch of one kernel as a service."""

    def __init__(
        self,
        services: DockerServices,
        steps: StepRecorder,
        predecessors: Collection[str],
        find_shortage: Callable[[str], Awaitable[str]],
    ) -> None:
        """Begin to observe.

        Args:
            services: for the logs of tasks that ended.
            steps: as in the base class.
            predecessors: as in the base class.
            find_shortage: returns `describe_shortage` for a service.
        """
        super().__init__(steps, predecessors)
        self._services = services
        self._find_shortage = find_shortage
        self._checking: asyncio.Task[None] | None = None

    def on_observation(self, observation: Observation) -> None:
        """See the base class."""
        super().on_observation(observation)
        if self.latest is not None and self._checking is None:
            self._checking = asyncio.create_task(self._check_addresses())

    @property
    def may_be_pulling(self) -> bool:
        """See the base class."""
        return self.latest is not None and PREPARING in self.latest.detail

    def close(self) -> None:
        """See the base class."""
        if self._checking is not None:
            self._checking.cancel()

    async def _check_addresses(self) -> None:
        """End the launch if its task gets no address: Swarm waits for one and reports no error."""
        pause = _FIRST_CHECK_SECONDS
        while not self.death.done():
            await asyncio.sleep(pause)
            pause *= 2
            latest = self.latest
            if latest is None or latest.workload.state is not WorkloadState.STARTING:
                return
            shortage = ""
            with contextlib.suppress(GatewayError):  # the next check may succeed
                shortage = await self._find_shortage(latest.engine_id)
            if shortage and not self.death.done():
                stuck = dataclasses.replace(latest.workload, exit_reason=shortage)
                self.death.set_result(dataclasses.replace(latest, workload=stuck))

    async def explain_death(self, observation: Observation) -> str:
        """See the base class."""
        reason = observation.workload.exit_reason
        if _NO_SHELL in reason:
            return (
                f"its image has no /bin/sh, which starts the kernel agent: {reason}. Build an "
                "image with a shell and python3."
            )
        if reason.startswith(NO_ADDRESS):
            return reason
        if reason.startswith(REJECTED):
            return (
                f"its task was {reason}. If it is the image that is missing: push it to a registry "
                "that every node reaches, load it on every node, or correct its name (image_name "
                "in kernel.json, KERNEL_IMAGE)."
            )
        is_sidecars = reason.startswith(SIDECAR_ENDED)
        ended = observation.sidecar_id if is_sidecars else observation.engine_id
        try:
            output = await self._services.log_tail(ended, OUTPUT_TAIL_LINES)
        except GatewayError as exc:
            output = f"Its output cannot be read. {exc}"
        if is_sidecars:
            return explain_sidecars_death(reason, output)
        advice = ""
        if "memory limit" in reason:
            advice = f" {MORE_MEMORY}"
        tail = output.encode()[-OUTPUT_TAIL_BYTES:].decode(errors="replace").strip()
        return f"its container ended before the kernel was ready: {reason}.{advice}\n{tail}"

    def describe_start(self, observation: Observation) -> str:
        """See the base class."""
        return observation.detail


def describe_shortage(network: KernelNetwork, tasks: Iterable[Task], service_id: str) -> str:
    """Return a sentence if a network has no address left for a service's task, else "".

    Swarm takes an address for each task and one more for each node that has any. Without the
    first a task stays `new`, without the second `preparing`, and Swarm reports no error.

    Args:
        network: of the kernels.
        tasks: all tasks of the swarm that should run.
        service_id: the service whose task has not started for a while.
    """
    known = list(tasks)
    task = newest_tasks(known).get(service_id)
    if task is None or task.status.state not in _UNADDRESSED:
        return ""
    inside = [each for each in known if _has_address(each, network.name)]
    taken = len(inside) + len({each.node_id for each in inside if each.node_id})
    if taken + _UNSEEN_ADDRESSES < network.capacity:
        return ""
    return (
        f"{NO_ADDRESS}: the Docker network '{network.name}' "
        f"({', '.join(map(str, network.subnets))}) has {network.capacity} addresses, and all are "
        "taken. End kernels, or give the network more addresses (EG_DOCKER_SUBNET in the stack)."
    )


def _has_address(task: Task, network: str) -> bool:
    attachments = task.networks_attachments or ()
    return any(one.addresses and one.network.spec.name == network for one in attachments)
