"""Which kernels of pools are missing, and which are too many."""

from hypothesis import given
from hypothesis import strategies as st

from enterprise_gateway.services.kernels.pools.balance import (
    FOREIGN_SECONDS,
    SURPLUS_SECONDS,
    Wanted,
    balance,
)
from enterprise_gateway.services.processproxies.contract import (
    POOL_USERNAME,
    Workload,
    WorkloadState,
)

NOW = 10_000.0


def member(kernel_id: str, pool: str = "p", created: float = NOW) -> Workload:
    """Return a kernel that waits in a pool."""
    name = f"{POOL_USERNAME}-{kernel_id}"
    return Workload(kernel_id, name, POOL_USERNAME, WorkloadState.RUNNING, created, pool=pool)


def test_what_is_missing_is_launched() -> None:
    """Less what is there, and what is being launched."""
    pools = {"p": Wanted(5), "q": Wanted(1)}
    found = balance(pools, {}, [member("a"), member("b", "q")], {"p": 2}, NOW)
    assert (found.missing, found.surplus) == ({"p": 2}, [])


def test_youngest_are_too_many() -> None:
    """By creation time, then by id, whatever the order in which they were found."""
    old, same, young = member("z", created=1), member("b", created=2), member("c", created=2)
    for order in ([young, same, old], [old, young, same]):
        found = balance({"p": Wanted(1)}, {}, order, {}, NOW)
        assert (found.missing, found.surplus) == ({}, [same, young])


def test_young_kernel_may_be_wanted_by_a_gateway_with_a_larger_pool() -> None:
    """So it stays for a while."""
    young = [member("a"), member("b")]
    assert balance({"p": Wanted(1)}, {}, young, {}, NOW).surplus == []
    found = balance({"p": Wanted(1)}, {}, young, {}, NOW + SURPLUS_SECONDS + 1)
    assert found.surplus == [young[1]]


def test_smaller_pool_loses_at_once_what_was_there_before() -> None:
    """What came later is of a gateway that wants it, and stays for a while."""
    pools = {"p": Wanted(0, reduced=NOW - 1)}
    before, after = member("a", created=NOW - 2), member("b", created=NOW)
    assert balance(pools, {}, [before, after], {}, NOW).surplus == [before]


def test_kernels_of_a_former_kernelspec_go_at_once() -> None:
    """This gateway knows that they are of no use any more; others may want later ones."""
    before, after = member("a", "old", NOW - 2), member("b", "old", NOW)
    found = balance({"p": Wanted(1)}, {"old": NOW - 1}, [before, after], {}, NOW)
    assert found.surplus == [before]


def test_kernels_of_other_gateways_pools_stay_for_a_while() -> None:
    """They may be of a newer gateway, during an update; later no gateway wants them."""
    young = member("a", "other", NOW - FOREIGN_SECONDS + 1)
    old = member("b", "other", NOW - FOREIGN_SECONDS - 1)
    assert balance({"p": Wanted(0)}, {}, [young, old], {}, NOW).surplus == [old]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=12), st.integers(0, 6))
def test_all_gateways_end_the_same(kernels: list[tuple[int, int]], size: int) -> None:
    """What is left has the pool's size, in whatever order a gateway sees the kernels."""
    members = [member(f"{number}-{a}", created=float(b)) for number, (a, b) in enumerate(kernels)]
    one = balance({"p": Wanted(size)}, {}, members, {}, NOW)
    other = balance({"p": Wanted(size)}, {}, members[::-1], {}, NOW)
    assert one == other
    assert len(members) - len(one.surplus) + one.missing.get("p", 0) == size
