"""What all kernels of a user or a group may take together."""

import itertools
from typing import Any

import pytest

from enterprise_gateway.services.kernels.starts.limits import (
    has_limits,
    refusal_of_start,
    refusal_of_started,
    refusal_of_taken,
)
from enterprise_gateway.services.kernels.starts.quotas import Counted
from enterprise_gateway.services.processproxies.contract import (
    POOL_USERNAME,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.resources import Usage
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.settings import KernelSettings, ResourceSettings
from enterprise_gateway.settings.values.amounts import Quota

GIB = 1024**3
CPU = 10**9


def make_settings(**quotas: Any) -> KernelSettings:
    """Return settings with these quotas and no limits."""
    return KernelSettings(resources=ResourceSettings(**quotas))


def make_workload(number: int, memory: int, created: float, user: str = "ann") -> Workload:
    """Return a running workload of so many GiB."""
    usage = Usage(memory=memory * GIB)
    state = WorkloadState.RUNNING
    return Workload(f"{number:03}", "", user, state, created, usage=usage)


def refuse(settings: KernelSettings, others: list[Counted], own: Counted, name: str) -> str | None:
    """Return why a kernel may not be started."""
    return refusal_of_start(settings, others, own, name)


@pytest.mark.parametrize(
    ("quota", "usage", "figures"),
    [
        (Quota(memory=8 * GIB), Usage(memory=3 * GIB), ("8 GiB", "6 GiB", "3 GiB of memory more")),
        (Quota(nano_cpus=4 * CPU), Usage(CPU * 3 // 2), ("4 CPUs", "3 CPUs", "1.5 CPUs more")),
        (Quota(gpus=1), Usage(gpus=1), ("1 GPU", "2 GPUs", "1 GPU more")),
        (Quota(kernels=2), Usage(), ("2 kernels", "1 kernels more")),
    ],
)
def test_refusal_tells_quota_sum_and_wish(
    quota: Quota, usage: Usage, figures: tuple[str, ...]
) -> None:
    """And whose it is; what fits is not refused."""
    settings = make_settings(user_quotas=(("*", quota),))
    own = Counted("ann", usage)
    if quota.nano_cpus:  # two have three of four
        assert refuse(settings, [own], own, "ann") is None
    refusal = refuse(settings, [own, own], own, "ann")
    assert refusal is not None
    assert all(each in refusal for each in ("user 'ann'", *figures))


def test_quota_of_a_user_is_by_the_name_that_workloads_have() -> None:
    """Escaped; who has none of their own has that of all others."""
    quotas = (("*", Quota(kernels=1)), ("an.n@example.org", Quota(kernels=2)), ("bob", Quota()))
    settings = make_settings(user_quotas=quotas)
    for name, may_have in (("an.n@example.org", 2), ("bob", 9), ("cid", 1)):
        own = Counted(escape_username(name))
        assert refuse(settings, [own] * (may_have - 1), own, name) is None
        assert (refuse(settings, [own] * may_have, own, name) is None) is (name == "bob")
    assert refuse(settings, [Counted("dan")] * 5, Counted("cid"), "cid") is None


def test_quota_of_a_group_counts_all_its_users() -> None:
    """By the labels of their kernels; each of a user's groups has its own."""
    settings = make_settings(group_quotas=(("lab", Quota(gpus=2)), ("*", Quota(gpus=1))))
    beside = [Counted("bob", Usage(gpus=1, groups=frozenset({"lab", "x"})))]
    of_lab = Counted("ann", Usage(gpus=1, groups=frozenset({"lab"})))
    of_both = Counted("ann", Usage(gpus=1, groups=frozenset({"lab", "x"})))
    assert refuse(settings, beside, of_lab, "ann") is None
    assert refuse(settings, [*beside, of_lab], of_lab, "ann") is not None
    assert "group 'x'" in (refuse(settings, beside, of_both, "ann") or "")
    assert refuse(settings, [*beside, of_lab], Counted("eve", Usage(gpus=9)), "eve") is None


def test_quotas_are_limits() -> None:
    """Starts are checked, and a kernel of no size is never too large."""
    settings = make_settings(user_quotas=(("*", Quota(memory=0)),))
    assert has_limits(settings)
    assert not has_limits(KernelSettings())
    assert refuse(settings, [], Counted("ann"), "ann") is None


def test_what_stays_never_exceeds_the_quota() -> None:
    """Whatever sizes come in whatever order, within a second or not, seen by each start alone."""
    settings = make_settings(user_quotas=(("*", Quota(memory=4 * GIB)),))
    for sizes in itertools.product((1, 2, 3, 4, 5), repeat=4):
        workloads = [
            make_workload(number, size, float(number // 2)) for number, size in enumerate(sizes)
        ]
        staying = [
            own for own in workloads if refusal_of_started(settings, workloads, own, "ann") is None
        ]
        assert sum(own.usage.memory for own in staying) <= 4 * GIB
        assert sizes[0] > 4 or workloads[0] in staying


def test_kernels_that_are_dead_or_in_a_pool_do_not_count() -> None:
    """One that is taken from a pool counts beside all others."""
    settings = make_settings(user_quotas=(("*", Quota(memory=4 * GIB)),))
    dead = Workload("d", "", "ann", WorkloadState.DEAD, 1.0, usage=Usage(memory=4 * GIB))
    pooled = Workload(
        "p", "", POOL_USERNAME, WorkloadState.RUNNING, 1.0, pool="x", usage=Usage(memory=4 * GIB)
    )
    own = make_workload(1, 4, 9.0)
    assert refusal_of_started(settings, [dead, pooled, own], own, "ann") is None
    assert refusal_of_taken(settings, [dead, pooled], own, "ann") is None
    younger = make_workload(2, 1, 10.0)
    assert refusal_of_started(settings, [own, younger], own, "ann") is None
    assert refusal_of_taken(settings, [younger], own, "ann") is not None
