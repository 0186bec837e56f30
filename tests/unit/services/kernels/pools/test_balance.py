"""Which kernels of pools are missing, and which are too many."""

from collections.abc import Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from enterprise_gateway.services.kernels.pools.balance import (
    FOREIGN_SECONDS,
    SURPLUS_SECONDS,
    TTL_FRACTION,
    Balance,
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


def find(
    pools: Mapping[str, Wanted],
    members: Iterable[Workload],
    gone: Mapping[str, float] | None = None,
    now: float = NOW,
) -> Balance:
    """Return the balance of kernels that are all ready, with no other launch under way."""
    return balance(pools, gone or {}, dict.fromkeys(members, True), {}, now)


def test_what_is_missing_is_launched() -> None:
    """Less what is there, and what is being launched."""
    pools = {"p": Wanted(5), "q": Wanted(1)}
    members = {member("a"): True, member("b", "q"): False}
    found = balance(pools, {}, members, {"p": 2}, NOW)
    assert (found.missing, found.surplus) == ({"p": 2}, [])


def test_youngest_are_too_many() -> None:
    """By creation time, then by id, whatever the order in which they were found."""
    old, same, young = member("z", created=1), member("b", created=2), member("c", created=2)
    for order in ([young, same, old], [old, young, same]):
        found = find({"p": Wanted(1)}, order)
        assert (found.missing, found.surplus) == ({}, [same, young])


def test_young_kernel_may_be_wanted_by_a_gateway_with_a_larger_pool() -> None:
    """So it stays for a while."""
    young = [member("a"), member("b")]
    assert find({"p": Wanted(1)}, young).surplus == []
    found = find({"p": Wanted(1)}, young, now=NOW + SURPLUS_SECONDS + 1)
    assert found.surplus == [young[1]]


def test_smaller_pool_loses_at_once_what_was_there_before() -> None:
    """What came later is of a gateway that wants it, and stays for a while."""
    pools = {"p": Wanted(0, reduced=NOW - 1)}
    before, after = member("a", created=NOW - 2), member("b", created=NOW)
    assert find(pools, [before, after]).surplus == [before]


def test_kernels_of_a_former_kernelspec_go_at_once() -> None:
    """This gateway knows that they are of no use any more; others may want later ones."""
    before, after = member("a", "old", NOW - 2), member("b", "old", NOW)
    found = find({"p": Wanted(1)}, [before, after], {"old": NOW - 1})
    assert found.surplus == [before]


def test_kernels_of_other_gateways_pools_stay_for_a_while() -> None:
    """They may be of a newer gateway, during an update; later no gateway wants them."""
    young = member("a", "other", NOW - FOREIGN_SECONDS + 1)
    old = member("b", "other", NOW - FOREIGN_SECONDS - 1)
    assert find({"p": Wanted(0)}, [young, old]).surplus == [old]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=12), st.integers(0, 6))
def test_all_gateways_end_the_same(kernels: list[tuple[int, int]], size: int) -> None:
    """What is left has the pool's size, in whatever order a gateway sees the kernels."""
    members = [member(f"{number}-{a}", created=float(b)) for number, (a, b) in enumerate(kernels)]
    one = find({"p": Wanted(size)}, members)
    other = find({"p": Wanted(size)}, members[::-1])
    assert one == other
    assert len(members) - len(one.surplus) + one.missing.get("p", 0) == size


TTL = 1000.0


def test_kernel_that_expires_ends_when_its_successor_is_ready() -> None:
    """Not before: the pool would lack one."""
    pools = {"p": Wanted(1, ttl=TTL)}
    old, new = member("a", created=NOW - TTL_FRACTION * TTL - 1), member("b", created=NOW - 1)
    assert find(pools, [new]) == Balance({}, [])
    assert find(pools, [old]) == Balance({"p": 1}, [])
    assert balance(pools, {}, {old: True}, {"p": 1}, NOW) == Balance({}, [])
    assert balance(pools, {}, {old: True, new: False}, {}, NOW) == Balance({}, [])
    assert find(pools, [old, new]) == Balance({}, [old])


def test_pool_whose_kernels_expire_together_stays_full() -> None:
    """They are replaced one by one, so that there is never more than one too many."""
    size, step = 20, 2.0
    pools = {"p": Wanted(size, ttl=TTL)}
    members = {member(str(number), created=NOW): True for number in range(size)}
    for tick in range(1, round(3 * TTL / step)):
        now = NOW + tick * step
        members = {one: True for one in members if now - one.created < TTL}
        assert size <= len(members) <= size + 1
        found = find(pools, members, now=now)
        for one in found.surplus:
            del members[one]
        for number in range(found.missing.get("p", 0)):
            members[member(f"{tick}-{number}", created=now)] = True
    assert len({one.created for one in members}) > size / 2


def test_pool_of_size_zero_has_no_successors() -> None:
    """What expires there ends as all others."""
    old = member("a", created=NOW - TTL + 1)
    assert find({"p": Wanted(0, ttl=TTL)}, [old]) == Balance({}, [old])
