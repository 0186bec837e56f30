"""The REST model of a kernel."""

import msgspec

from enterprise_gateway.services.kernels.access.rights import KernelAccess, Right
from enterprise_gateway.services.kernels.access.shares import Access
from enterprise_gateway.services.kernels.agents.state import ExecutionState, format_time
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.reservations import Launching
from enterprise_gateway.services.processproxies.contract import ImagePull
from enterprise_gateway.services.processproxies.steps import StartTimes
from enterprise_gateway.services.processproxies.workloads.names import unescape_username


class SharedKernel(msgspec.Struct, frozen=True):
    """How a kernel of another user is shared with the one who asks."""

    owner: str
    """Its user's name; a long one is cut, as in the name of the kernel's container."""
    access: Access


class KernelModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """A kernel as REST shows it, the model of jupyter_server's `/api/kernels`."""

    id: str
    name: str
    last_activity: str
    """ISO 8601, always with six digits of a second and a Z: clients parse it so."""
    execution_state: ExecutionState
    connections: int
    reason: str = ""
    """Why it is dead; left out if there is nothing to say."""
    notice: str = ""
    """A sentence about how it was started, such as in another folder; left out of lists."""
    start: StartTimes | None = None
    """Its latest start or restart, one under way up to now; left out of lists."""
    pull: ImagePull | None = None
    """While its start waits for an image that is being pulled."""
    launches_ahead: int | None = None
    """While its start waits for its turn: how many come before."""
    shared: SharedKernel | None = None
    """If it is another user's."""
    paused: bool = False
    """Whether it is idle and takes no CPU time until it is used again."""


def kernel_model(record: Record) -> KernelModel:
    """Return the REST model of a kernel, as lists show it."""
    state = record.state
    reason = record.death or (state.reason.message if state and state.reason else "")
    return KernelModel(
        id=record.kernel_id,
        name=record.kernel_name,
        last_activity=state.last_activity if state else format_time(record.workload.created),
        execution_state=_execution_state(record),
        connections=state.connections if state and not record.is_dead else 0,
        reason=reason,
        paused=record.is_paused,
    )


def detailed_model(record: Record) -> KernelModel:
    """Return the REST model of a kernel that was asked for by itself."""
    notice = record.state.notice if record.state else ""
    return msgspec.structs.replace(kernel_model(record), start=record.start, notice=notice or "")


def with_access(model: KernelModel, access: KernelAccess) -> KernelModel:
    """Return a model marked as that of another user's kernel if it is there by a share."""
    if not access.grant:
        return model
    allowed = Access.WRITE if access.right >= Right.WRITE else Access.READ
    shared = SharedKernel(unescape_username(access.owner), allowed)
    return msgspec.structs.replace(model, shared=shared)


def starting_model(launching: Launching, launches_ahead: int | None) -> KernelModel:
    """Return the REST model of a kernel that is being launched."""
    return KernelModel(
        id=launching.launch.kernel_id,
        name=launching.launch.kernel_name,
        last_activity=format_time(launching.since),
        execution_state=ExecutionState.STARTING,
        connections=0,
        start=launching.launch.steps.times(),
        pull=launching.pull,
        launches_ahead=launches_ahead,
    )


def _execution_state(record: Record) -> ExecutionState:
    if record.is_dead:
        return ExecutionState.DEAD
    return record.state.execution_state if record.state else ExecutionState.STARTING
