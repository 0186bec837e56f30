"""How many kernels there may be."""

from dataclasses import replace

import pytest

from enterprise_gateway.services.kernels.starts.limits import refusal_of_start, refusal_of_started
from enterprise_gateway.services.kernels.starts.quotas import Counted
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.settings import KernelSettings


def make_workloads(count: int, username: str = "ann") -> list[Workload]:
    """Return running workloads, two of each creation time, in no particular order."""
    workloads = [
        Workload(f"{index:03}", "", username, WorkloadState.RUNNING, float(index // 2))
        for index in range(count)
    ]
    return workloads[1::2] + workloads[::2]


def survivors(settings: KernelSettings, workloads: list[Workload]) -> list[str]:
    """Return the kernels that stay if each start decides by the same list."""
    return sorted(
        own.kernel_id
        for own in workloads
        if refusal_of_started(settings, workloads, own, own.username) is None
    )


def refuse(settings: KernelSettings, users: list[str], user: str) -> str | None:
    """Return why a user may start no kernel beside those of other users."""
    return refusal_of_start(settings, map(Counted, users), Counted(user), user)


@pytest.mark.parametrize("limit", [0, 1, 7, 20, 30])
def test_the_oldest_kernels_stay_exactly_up_to_the_limit(limit: int) -> None:
    """Each start decides alone, and all decisions agree."""
    workloads = make_workloads(20)
    expected = [f"{index:03}" for index in range(min(limit, 20))]
    assert survivors(KernelSettings(max_kernels=limit), workloads) == expected
    assert survivors(KernelSettings(max_kernels_per_user=limit), workloads) == expected


def test_limits_per_user_do_not_count_others() -> None:
    """Bob's kernels are no reason to refuse Ann's."""
    bobs = [replace(one, kernel_id=f"b{one.kernel_id}") for one in make_workloads(5, "bob")]
    settings = KernelSettings(max_kernels_per_user=3)
    assert len(survivors(settings, make_workloads(5) + bobs)) == 6


def test_kernels_that_go_take_no_users_place() -> None:
    """Ann has one too many, so Bob, who came after her, gets the place that she does not."""
    bobs = [
        replace(one, kernel_id=f"b{one.kernel_id}", created=one.created + 10)
        for one in make_workloads(5, "bob")
    ]
    settings = KernelSettings(max_kernels=3, max_kernels_per_user=2)
    assert survivors(settings, make_workloads(5) + bobs) == ["000", "001", "b000"]
    assert refuse(settings, ["ann", "ann", "ann"], "bob") is None


def test_dead_workloads_do_not_count() -> None:
    """A container that was kept after its end does not count."""
    dead = [replace(one, state=WorkloadState.DEAD) for one in make_workloads(3)]
    own = Workload("own", "", "ann", WorkloadState.RUNNING, 9.0)
    assert refusal_of_started(KernelSettings(max_kernels=1), [*dead, own], own, "ann") is None


def test_early_refusals_use_egs_words() -> None:
    """The messages are those that EG's users know."""
    total = refuse(KernelSettings(max_kernels=2), ["ann", "bob"], "cid")
    assert total == (
        "A max kernels limit has been set to 2 and there are currently 2 active and pending "
        "kernel(s)."
    )
    per_user = refuse(KernelSettings(max_kernels_per_user=1), ["ann", "bob"], "ann")
    assert per_user == (
        "A max kernels per user limit has been set to 1 and user 'ann' currently has 1 active and "
        "pending kernel(s)."
    )
    assert refuse(KernelSettings(max_kernels_per_user=1), ["bob"], "ann") is None
    assert refuse(KernelSettings(), ["ann"] * 1000, "ann") is None
