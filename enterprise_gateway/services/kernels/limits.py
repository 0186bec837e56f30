"""How many kernels there may be: pure decisions.

Exact without locks: whoever started a kernel then lists all workloads, and if there are too many,
the youngest by (creation time, id) go. Those that are too many of one user take nobody else's
place. Everybody computes the same answer, so each start needs to decide about its own kernel only.
"""

from collections import Counter
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
        usernames: the user of each kernel that is or is being started, the oldest first.
        username: who wants one more.
    """
    return _refusal(settings, _staying(settings, usernames), username, username)


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
    older = sorted(
        (workload for workload in alive if _age_key(workload) < _age_key(listed)), key=_age_key
    )
    staying = _staying(settings, (workload.username for workload in older))
    return _refusal(settings, staying, own.username, username)


def _staying(settings: KernelSettings, usernames: Iterable[str]) -> Counter[str]:
    """Return how many kernels of each user stay: those that must go take nobody's place."""
    staying: Counter[str] = Counter()
    for username in usernames:
        if _refusal(settings, staying, username, username) is None:
            staying[username] += 1
    return staying


def _refusal(
    settings: KernelSettings, staying: Counter[str], user: str, username: str
) -> str | None:
    """Return why one more kernel would be too many, in EG's words.

    Args:
        settings: where the limits are.
        staying: the kernels there are, by user.
        user: whose kernel it would be, as `staying` names him.
        username: the same, for the message.
    """
    total = staying.total()
    if settings.max_kernels is not None and total >= settings.max_kernels:
        return total_limit_message(settings.max_kernels, total)
    if 0 <= settings.max_kernels_per_user <= staying[user]:
        return user_limit_message(settings.max_kernels_per_user, username, staying[user])
    return None


def _age_key(workload: Workload) -> tuple[float, str]:
    return workload.created, workload.kernel_id
