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
class Wanted:
    """A pool as it should be."""

    size: int
    reduced: float = 0.0
    """When this gateway saw it become smaller, in seconds since the epoch.

    Kernels from before that are of a size that was given up; later ones are of a gateway that has
    been told of a larger size, or not yet of the smaller one.
    """


@dataclass(frozen=True, slots=True)
class Balance:
    """What follows from the kernels that are in pools now."""

    missing: Mapping[str, int]
    """By pool: how many kernels are to be launched; only those that lack some."""
    surplus: Collection[Workload]
    """Those to be ended."""


def balance(
    pools: Mapping[str, Wanted],
    gone: Mapping[str, float],
    pooled: Iterable[Workload],
    launching: Mapping[str, int],
    now: float,
) -> Balance:
    """Compare the pools as they are with what they should be.

    Args:
        pools: those that there should be, by key.
        gone: when pools of this gateway's kernelspecs ceased to be, by key; as `Wanted.reduced`.
        pooled: the living workloads that are in pools.
        launching: how many more this gateway launches, by key.
        now: seconds since the epoch.
    """
    members: dict[str, list[Workload]] = defaultdict(list)
    for workload in pooled:
        members[workload.pool].append(workload)
    surplus: list[Workload] = []
    for key, workloads in members.items():
        if key in pools:
            wanted = pools[key]
            surplus.extend(
                workload
                for workload in sorted(workloads, key=_age_key)[wanted.size :]
                if workload.created < wanted.reduced or now - workload.created > SURPLUS_SECONDS
            )
        else:
            surplus.extend(
                workload
                for workload in workloads
                if workload.created < gone.get(key, 0.0) or now - workload.created > FOREIGN_SECONDS
            )
    missing = {
        key: wanted.size - len(members[key]) - launching.get(key, 0)
        for key, wanted in pools.items()
    }
    return Balance({key: count for key, count in missing.items() if count > 0}, surplus)


def _age_key(workload: Workload) -> tuple[float, str]:
    return workload.created, workload.kernel_id
