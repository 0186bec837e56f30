"""What gateways remember of pools that became smaller, or ceased to be."""

from pathlib import Path

import msgspec

from enterprise_gateway.services.kernels.pools.balance import (
    FOREIGN_SECONDS,
    SURPLUS_SECONDS,
    balance,
)
from enterprise_gateway.services.kernels.pools.history import PoolHistory
from enterprise_gateway.services.kernels.pools.pool import Pool, plan_pool, with_image
from enterprise_gateway.services.kernelspecs.kernelspec import parse_kernelspec
from enterprise_gateway.services.processproxies.contract import (
    POOL_USERNAME,
    PULLED_BY_NODES,
    KernelImage,
    Workload,
    WorkloadState,
)
from enterprise_gateway.settings import Settings
from enterprise_gateway.settings.values.schedule import PAUSE, PoolSize

MORNING = 36_000.0
"""When the schedule has the pool filled, in seconds since the epoch."""
SETTINGS = Settings(cluster_secret=b"s" * 32)


def pool(size: PoolSize, image: str = "image") -> Pool:
    """Return a pool of one kernelspec."""
    proxy = {"class_name": "site.Proxy"}
    content = {
        "argv": ["launch"],
        "display_name": "Py",
        "language": "python",
        "metadata": {"process_proxy": proxy},
    }
    spec = parse_kernelspec("py", Path("/specs/py"), msgspec.json.encode(content), ())
    return plan_pool(spec, SETTINGS, size, image)


def member(kernel_id: str, created: float, of: Pool) -> Workload:
    """Return a kernel that waits in a pool."""
    name = f"{POOL_USERNAME}-{kernel_id}"
    state = WorkloadState.RUNNING
    return Workload(kernel_id, name, POOL_USERNAME, state, created, pool=of.key)


def ended(history: PoolHistory, members: list[Workload], now: float) -> list[str]:
    """Return the ids of the kernels that a gateway ends."""
    pooled = dict.fromkeys(members, True)
    found = balance(history.wanted, history.gone, pooled, {}, now)
    return [workload.kernel_id for workload in found.surplus]


def test_replica_that_is_late_at_the_edge_of_a_schedule_ends_nothing() -> None:
    """It has known the pool yesterday, and sees kernels that another has just launched."""
    late = PoolHistory()
    for size, now in ((20, MORNING - 60_000), (0, MORNING - 40_000), (0, MORNING - 1)):
        late.plan([pool(size)], now)
    launched = [member(str(number), MORNING + number, pool(20)) for number in range(3)]
    assert ended(late, launched, MORNING + 10) == []
    late.plan([pool(20)], MORNING + 10)
    assert ended(late, launched, MORNING + SURPLUS_SECONDS + 10) == []


def test_pool_that_was_small_for_a_while_is_large_again_for_all() -> None:
    """A replica that still knows the smaller size leaves new kernels alone for a while."""
    late = PoolHistory()
    for size, now in ((20, 1.0), (5, 1000.0), (20, 2000.0), (19, MORNING)):
        late.plan([pool(size)], now)
    launched = [member(str(number), MORNING + 1, pool(20)) for number in range(20)]
    assert ended(late, launched, MORNING + SURPLUS_SECONDS) == []


def test_smaller_pool_ends_kernels_at_once() -> None:
    """Those that were there; a schedule that ends is no different."""
    history = PoolHistory()
    history.plan([pool(2)], MORNING)
    members = [member("a", MORNING + 1, pool(2)), member("b", MORNING + 2, pool(2))]
    history.plan([pool(1)], MORNING + 3)
    assert ended(history, members, MORNING + 3) == ["b"]
    history.plan([pool(0)], MORNING + 4)
    assert sorted(ended(history, members, MORNING + 4)) == ["a", "b"]


def test_kernels_of_a_former_image_go_at_once() -> None:
    """But not those that another replica, which does not know it yet, launches after that."""
    history = PoolHistory()
    history.plan([pool(1, "old")], MORNING)
    history.plan([pool(1, "new")], MORNING + 10)
    before = member("a", MORNING + 5, pool(1, "old"))
    after = member("b", MORNING + 15, pool(1, "old"))
    assert ended(history, [before, after], MORNING + 20) == ["a"]
    history.plan([pool(1, "new")], MORNING + FOREIGN_SECONDS + 20)
    assert ended(history, [after], MORNING + FOREIGN_SECONDS + 20) == ["b"]
    assert not history.gone


def test_pool_that_is_back_is_not_gone() -> None:
    """As when an edit of the kernelspec is taken back."""
    history = PoolHistory()
    for plan in ([pool(1)], [], [pool(1)]):
        history.plan(plan, MORNING)
    assert ended(history, [member("a", MORNING - 1, pool(1))], MORNING) == []


def test_image_that_nodes_pull_has_no_part_in_the_pools_name() -> None:
    """Managers may have different ones, or none: their gateways share the pool all the same."""
    images = [KernelImage("name", bool(id_), PULLED_BY_NODES, id_) for id_ in ("", "one", "two")]
    pools = [with_image(pool(1), image) for image in images]
    assert {each.key for each in pools} == {pool(1).key}
    assert not any(each.lacks_image for each in pools)


def test_kernels_of_the_image_that_nodes_had_before_go_at_once() -> None:
    """The gateway's own node tells: it has another one of the same name now."""
    history = PoolHistory()
    plans = [("", 0.0), ("one", 1.0), ("one", 2.0), ("", 3.0), ("two", 4.0), ("two", 5.0)]
    for image_id, now in plans[:4]:
        image = KernelImage("name", bool(image_id), PULLED_BY_NODES, image_id)
        history.plan([with_image(pool(2), image)], MORNING + now)
    members = [member("a", MORNING + 3.5, pool(2)), member("b", MORNING + 4.5, pool(2))]
    assert ended(history, members, MORNING + 5) == []
    for image_id, now in plans[4:]:
        image = KernelImage("name", bool(image_id), PULLED_BY_NODES, image_id)
        history.plan([with_image(pool(2), image)], MORNING + now)
    assert ended(history, members, MORNING + 5) == ["a"]
    found = balance(history.wanted, history.gone, dict.fromkeys(members, True), {}, MORNING + 5)
    assert found.missing == {pool(2).key: 1}


def test_pool_that_is_paused_stays_as_it_is() -> None:
    """Nothing is launched or ended, whatever its size was; then it has a size again."""
    history = PoolHistory()
    members = [member(str(number), MORNING - 1000 + number, pool(2)) for number in range(3)]
    history.plan([pool(2)], MORNING - 1000)
    history.plan([pool(PAUSE)], MORNING)
    for present in (members, members[:1]):
        found = balance(history.wanted, history.gone, dict.fromkeys(present, True), {}, MORNING)
        assert (found.missing, found.surplus) == ({}, [])
    history.plan([pool(1)], MORNING + 1)
    assert sorted(ended(history, members, MORNING + 1)) == ["1", "2"]
