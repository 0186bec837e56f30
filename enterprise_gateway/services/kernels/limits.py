"""How many kernels there may be: pure decisions.

Exact without locks: whoever started a kernel then lists all workloads, and if there are too many,
the youngest by (creation time, id) go. Everybody computes the same answer, so each start needs to
decide about its own kernel only.
"""

from collections.abc import Iterable

from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.settings import KernelSettings


def total_limit_message(limit: int, count: int) -> str:
    """Return EG's words for too many kernels."""
    return (
        f"A max kernels limit has been set to {limit} and there are currently {count} "
        "active and pending kernel(s)."
    )


def user_limit_message(limit: int, username: str, count: int) -> str:
    """Return EG's words for too many kernels of one user."""
    return (
        f"A max kernels per user limit has been set to {limit} and user '{username}' currently has "
        f"{count} active and pending kernel(s)."
    )


def has_limits(settings: KernelSettings) -> bool:
    """Say whether any limit is set."""
    return settings.max_kernels is not None or settings.max_kernels_per_user >= 0


def refusal_of_start(
    settings: KernelSettings, usernames: Iterable[str], username: str
) -> str | None:
    """Return why one more kernel would be too many, None if it is not.

    Args:
        settings: where the limits are.
        usernames: the user of each kernel that is or is being started.
        username: who wants one more.
    """
    users = list(usernames)
    if settings.max_kernels is not None and len(users) >= settings.max_kernels:
        return total_limit_message(settings.max_kernels, len(users))
    limit = settings.max_kernels_per_user
    if 0 <= limit <= users.count(username):
        return user_limit_message(limit, username, users.count(username))
    return None


def refusal_of_started(
    settings: KernelSettings, workloads: Iterable[Workload], own: Workload, username: str
) -> str | None:
    """Return why a kernel that has been started must go again, None if it may stay.

    Args:
        settings: where the limits are.
        workloads: all there are. Creation times are compared as they are in here.
        own: the workload in question.
        username: its user, for the message.
    """
    alive = [workload for workload in workloads if workload.state is not WorkloadState.DEAD]
    listed = next((one for one in alive if one.kernel_id == own.kernel_id), own)
    older = [workload for workload in alive if _age_key(workload) < _age_key(listed)]
    if settings.max_kernels is not None and len(older) >= settings.max_kernels:
        return total_limit_message(settings.max_kernels, len(older))
    limit = settings.max_kernels_per_user
    of_user = sum(workload.username == own.username for workload in older)
    if 0 <= limit <= of_user:
        return user_limit_message(limit, username, of_user)
    return None


def _age_key(workload: Workload) -> tuple[float, str]:
    return workload.created, workload.kernel_id
