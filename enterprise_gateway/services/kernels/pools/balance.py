"""Decides which kernels of pools are too many, and how many are missing. Pure.

Every gateway decides alike, by what the engines tell: of a pool with too many the youngest go.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from enterprise_gateway.services.processproxies.contract import Workload

FOREIGN_SECONDS = 600.0
"""How old a kernel must be to be ended for the pool that it is in.

During an update of the gateways, an older one may know another kernelspec; they must not end each
other's kernels as fast as they launch them.
"""
SURPLUS_SECONDS = 30.0
"""The same for one that is too many: another gateway may have been told of a larger pool."""
TTL_FRACTION = 0.9
"""The part of its time after which a kernel is replaced, before its agent ends it.

Kernels that were launched together would end together, and leave the pool empty.
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pool as it should be."""

    size: int
    is_paused: bool = False
    """Whether what there is stays, and nothing is launched; `size` is that of before."""
    ttl: float = math.inf
    """After how many seconds agents end its kernels."""
    reduced: float = 0.0
    """When this gateway saw it become smaller, in seconds since the epoch.

    Kernels from before that are of a size that was given up; later ones are of a gateway that has
    been told of a larger size, or not yet of the smaller one.
    """
    renewed: float = 0.0
    """When this gateway saw its image change. Kernels from before that are of the former one."""


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
    pooled: Mapping[Workload, bool],
    launching: Mapping[str, int],
    now: float,
) -> Balance:
    """Compare the pools as they are with what they should be.

    Args:
        pools: those that there should be, by key.
        gone: when pools of this gateway's kernelspecs ceased to be, by key; as `Wanted.reduced`.
        pooled: the living workloads that are in pools, and whether a user can be given each now.
        launching: how many more this gateway launches, by key.
        now: seconds since the epoch.
    """
    members: dict[str, list[Workload]] = defaultdict(list)
    for workload in sorted(pooled, key=_age_key):
        members[workload.pool].append(workload)
    missing: dict[str, int] = {}
    surplus: list[Workload] = []
    for key in members.keys() - pools.keys():
        surplus.extend(
            workload
            for workload in members[key]
            if workload.created < gone.get(key, 0.0) or now - workload.created > FOREIGN_SECONDS
        )
    for key, wanted in pools.items():
        if wanted.is_paused:
            continue
        former = [one for one in members[key] if one.created < wanted.renewed]
        present = members[key][len(former) :]
        expiring = _expiring(wanted, present, now)
        missing[key] = wanted.size + bool(expiring) - len(present) - launching.get(key, 0)
        surplus.extend([*former, *_surplus(wanted, present, expiring, pooled, now)])
    return Balance({key: count for key, count in missing.items() if count > 0}, surplus)


def _expiring(wanted: Wanted, members: Sequence[Workload], now: float) -> Sequence[Workload]:
    """Return the kernels whose time is nearly over: each has a successor first, then ends."""
    return [one for one in members if now - one.created > TTL_FRACTION * wanted.ttl]


def _surplus(
    wanted: Wanted,
    members: Sequence[Workload],
    expiring: Sequence[Workload],
    pooled: Mapping[Workload, bool],
    now: float,
) -> list[Workload]:
    """Return the kernels of a pool that are too many: those that expire, then the youngest.

    Args:
        wanted: the pool as it should be.
        members: its kernels, the oldest first.
        expiring: those of them whose time is nearly over.
        pooled: as for `balance`.
        now: likewise.
    """
    oldest = expiring[: max(len(members) - wanted.size, 0)]
    others = members[len(oldest) :]
    has_successors = sum(pooled[one] for one in others) >= wanted.size
    youngest = [
        one
        for one in others[wanted.size :]
        if one.created < wanted.reduced or now - one.created > SURPLUS_SECONDS
    ]
    return [*(oldest if has_successors else ()), *youngest]


def _age_key(workload: Workload) -> tuple[float, str]:
    return workload.created, workload.kernel_id
