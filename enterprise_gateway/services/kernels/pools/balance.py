"""Decides which kernels of pools are too many, and how many are missing. Pure.

Every gateway decides alike, by what the engines tell: of a pool with too many the youngest go.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from enterprise_gateway.services.processproxies.contract import Workload

FOREIGN_SECONDS = 600.0
"""How old a kernel must be to be ended for the pool that it is in.

During an update of the gateways, an older one may know another kernelspec; they must not end each
other's kernels as fast as they launch them.
"""
SURPLUS_SECONDS = 30.0
"""The same for one that is too many: another gateway may have been told of a larger pool."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What follows from the kernels that are in pools now."""

    missing: Mapping[str, int]
    """By pool: how many kernels are to be launched; only those that lack some."""
    surplus: Collection[Workload]
    """Those to be ended."""


def balance(
    sizes: Mapping[str, int],
    outdated: Collection[str],
    reduced: Collection[str],
    pooled: Iterable[Workload],
    launching: Mapping[str, int],
    now: float,
) -> Balance:
    """Compare the pools as they are with what they should be.

    Args:
        sizes: of the pools that there should be, by key.
        outdated: the keys of former pools of this gateway's kernelspecs.
        reduced: the keys of pools that are smaller now than this gateway has known them.
        pooled: the living workloads that are in pools.
        launching: how many more this gateway launches, by key.
        now: seconds since the epoch.
    """
    members: dict[str, list[Workload]] = defaultdict(list)
    for workload in pooled:
        members[workload.pool].append(workload)
    surplus: list[Workload] = []
    for key, workloads in members.items():
        if key in sizes:
            surplus.extend(
                workload
                for workload in sorted(workloads, key=_age_key)[sizes[key] :]
                if key in reduced or now - workload.created > SURPLUS_SECONDS
            )
        else:
            surplus.extend(
                workload
                for workload in workloads
                if key in outdated or now - workload.created > FOREIGN_SECONDS
            )
    missing = {key: size - len(members[key]) - launching.get(key, 0) for key, size in sizes.items()}
    return Balance({key: count for key, count in missing.items() if count > 0}, surplus)


def _age_key(workload: Workload) -> tuple[float, str]:
    return workload.created, workload.kernel_id
