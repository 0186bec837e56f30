"""Decides about quotas: what all kernels of a user, or of a group, may take together. Pure.

They are exact without locks, as limits are: a kernel may stay if it fits with all older ones that
are alive. Their sum does not depend on the order among them. An older one that has just been
refused counts until it is gone, so a start beside it may be refused although it would fit then.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from enterprise_gateway.services.kernels.planning.resources import quota_of
from enterprise_gateway.services.processproxies.contract import Workload
from enterprise_gateway.services.processproxies.resources import Usage
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.settings.resources import OTHERS, ResourceSettings
from enterprise_gateway.settings.values.amounts import Quota, describe_amount

_COUNTED = ("nano_cpus", "memory", "gpus")


@dataclass(frozen=True, slots=True)
class Counted:
    """A kernel as limits and quotas count it."""

    user: str
    """As in `Workload.username`, which the gateway wrote and no agent."""
    usage: Usage = field(default_factory=Usage)


def counted(workload: Workload) -> Counted:
    """Return a workload as limits and quotas count it."""
    return Counted(workload.username, workload.usage)


def has_quotas(settings: ResourceSettings) -> bool:
    """Say whether any quota is set."""
    return bool(settings.user_quotas or settings.group_quotas)


def refusal_by_quota(
    settings: ResourceSettings, others: Iterable[Counted], own: Counted, username: str
) -> str | None:
    """Return why a kernel would be too much beside others, None if it is not.

    Args:
        settings: the quotas.
        others: the other kernels that run or are being started.
        own: the kernel in question.
        username: its user, for the message.
    """
    if not has_quotas(settings):
        return None
    others = list(others)
    users = [
        (name if name == OTHERS else escape_username(name), quota)
        for name, quota in settings.user_quotas
    ]
    quota = quota_of(own.user, users)
    beside = [one for one in others if one.user == own.user]
    refusals = [_refusal(f"user '{username}'", quota, beside, own)]
    for group in sorted(own.usage.groups):
        beside = [one for one in others if group in one.usage.groups]
        quota = quota_of(group, settings.group_quotas)
        refusals.append(_refusal(f"group '{group}'", quota, beside, own))
    return next(filter(None, refusals), None)


def _refusal(whose: str, quota: Quota | None, beside: list[Counted], own: Counted) -> str | None:
    if quota is None:
        return None
    for resource, most, taken, more in _sums(quota, beside, own):
        if taken + more > most:
            return (
                f"The quota of {whose} is {describe_amount(resource, most)}: its kernels have "
                f"{describe_amount(resource, taken)}, and this one would take "
                f"{describe_amount(resource, more)} more. End a kernel, or start a smaller one."
            )
    return None


def _sums(quota: Quota, beside: list[Counted], own: Counted) -> Iterator[tuple[str, int, int, int]]:
    """Yield each resource that a quota limits, with what there is, is taken, and is wanted."""
    if quota.kernels is not None:
        yield "kernels", quota.kernels, len(beside), 1
    for resource in _COUNTED:
        most = getattr(quota, resource)
        more = getattr(own.usage, resource)
        if most is not None and more:
            taken = sum(getattr(one.usage, resource) for one in beside)
            yield resource, most, taken, more
