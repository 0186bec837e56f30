"""Decides about the limits of kernels, in all and per user, and about quotas. Pure.

The functions return the text of a refusal; `Starter` raises it.

They are exact without locks: a replica that has started a kernel lists all workloads, and if there
are too many, the youngest by (creation time, id) must go. A kernel that exceeds its user's limit
does not count for other users. All replicas compute the same answer, so each start needs to decide
about its own kernel only.
"""

from collections import Counter
from collections.abc import Iterable

from enterprise_gateway.services.kernels.starts.quotas import (
    Counted,
    counted,
    has_quotas,
    refusal_by_quota,
)
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.settings import KernelSettings


def total_limit_message(limit: int, count: int) -> str:
    """Return Enterprise Gateway's message for too many kernels."""
    return (
        f"A max kernels limit has been set to {limit} and there are currently {count} "
        "active and pending kernel(s)."
    )


def user_limit_message(limit: int, username: str, count: int) -> str:
    """Return Enterprise Gateway's message for too many kernels of one user."""
    return (
        f"A max kernels per user limit has been set to {limit} and user '{username}' currently has "
        f"{count} active and pending kernel(s)."
    )


def has_limits(settings: KernelSettings) -> bool:
    """Say whether any limit or quota is set."""
    has_limit = settings.max_kernels is not None or settings.max_kernels_per_user >= 0
    return has_limit or has_quotas(settings.resources)


def refusal_of_start(
    settings: KernelSettings, others: Iterable[Counted], own: Counted, username: str
) -> str | None:
    """Return why one more kernel would be too many, None if it is not.

    Args:
        settings: the limits.
        others: the kernels that run or are being started, the oldest first.
        own: the new kernel.
        username: its user, for the message.
    """
    others = list(others)
    staying = _staying(settings, (one.user for one in others))
    refusal = _refusal(settings, staying, own.user, username)
    return refusal or refusal_by_quota(settings.resources, others, own, username)


def refusal_of_started(
    settings: KernelSettings, workloads: Iterable[Workload], own: Workload, username: str
) -> str | None:
    """Return why a kernel that has been started must go again, None if it may stay.

    Args:
        settings: the limits.
        workloads: all workloads, whose creation times decide.
        own: the workload in question.
        username: its user, for the message.
    """
    alive = [
        workload
        for workload in workloads
        if workload.state is not WorkloadState.DEAD and not workload.is_pooled
    ]
    listed = next((one for one in alive if one.kernel_id == own.kernel_id), own)
    older = sorted(
        (workload for workload in alive if _age_key(workload) < _age_key(listed)), key=_age_key
    )
    return refusal_of_start(settings, map(counted, older), counted(own), username)


def refusal_of_taken(
    settings: KernelSettings, others: Iterable[Workload], own: Workload, username: str
) -> str | None:
    """Return why a kernel that was taken from a pool may be too many, None if it is not.

    Args:
        settings: the limits.
        others: all other workloads.
        own: the workload in question.
        username: its user, for the message.
    """
    alive = (one for one in others if one.state is not WorkloadState.DEAD and not one.is_pooled)
    older = map(counted, sorted(alive, key=_age_key))
    return refusal_of_start(settings, older, counted(own), username)


def _staying(settings: KernelSettings, usernames: Iterable[str]) -> Counter[str]:
    """Return how many kernels of each user may stay; those that must go do not count."""
    staying: Counter[str] = Counter()
    for username in usernames:
        if _refusal(settings, staying, username, username) is None:
            staying[username] += 1
    return staying


def _refusal(
    settings: KernelSettings, staying: Counter[str], user: str, username: str
) -> str | None:
    """Return Enterprise Gateway's message if one more kernel would be too many, else None.

    Args:
        settings: the limits.
        staying: the number of kernels of each user.
        user: the user of the new kernel, as in `staying`.
        username: the same user, for the message.
    """
    total = staying.total()
    if settings.max_kernels is not None and total >= settings.max_kernels:
        return total_limit_message(settings.max_kernels, total)
    if 0 <= settings.max_kernels_per_user <= staying[user]:
        return user_limit_message(settings.max_kernels_per_user, username, staying[user])
    return None


def _age_key(workload: Workload) -> tuple[float, str]:
    return workload.created, workload.kernel_id
