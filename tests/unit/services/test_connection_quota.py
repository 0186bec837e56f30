"""Places on a port."""

from enterprise_gateway.services.connection_quota import ConnectionQuota


def test_newcomer_takes_the_place_of_its_neighbours_oldest() -> None:
    """One address cannot take the places of others while its own are full."""
    quota: ConnectionQuota[str] = ConnectionQuota(per_address=2, total=10)
    assert quota.admit("a1", "a") is None
    assert quota.admit("b1", "b") is None
    assert quota.admit("a2", "a") is None
    assert quota.admit("a3", "a") == "a1"
    assert len(quota) == 3


def test_total_is_kept_by_dropping_the_oldest_of_all() -> None:
    """Many addresses together hold no more than the total."""
    quota: ConnectionQuota[str] = ConnectionQuota(per_address=2, total=2)
    quota.admit("a1", "a")
    quota.admit("b1", "b")
    assert quota.admit("c1", "c") == "a1"
    assert len(quota) == 2


def test_released_place_is_free_again() -> None:
    """Releasing is idempotent, and makes room."""
    quota: ConnectionQuota[str] = ConnectionQuota(per_address=1, total=1)
    quota.admit("a1", "a")
    quota.release("a1")
    quota.release("a1")
    assert quota.admit("a2", "a") is None


def test_oldest_is_evicted_and_addresses_may_be_left_out() -> None:
    """Proxies have no quota of their own; when all is short the oldest goes, whose it is."""
    quota: ConnectionQuota[str] = ConnectionQuota(per_address=1, total=3)
    assert quota.evict() is None
    assert quota.admit("p1") is None
    assert quota.admit("p2") is None
    assert quota.admit("a1", "a") is None
    assert quota.admit("p3") == "p1"
    assert quota.evict() == "p2"
    assert len(quota) == 2
