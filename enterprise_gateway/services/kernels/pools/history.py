"""What a gateway remembers of pools as they were, to know what is left of them. Pure."""

from collections.abc import Iterable, Mapping

from enterprise_gateway.services.kernels.pools.balance import FOREIGN_SECONDS, Wanted
from enterprise_gateway.services.kernels.pools.pool import Pool


class PoolHistory:
    """The pools that there should be, and when others became smaller or ceased to be.

    Attributes:
        wanted: the pools as they should be now, by key.
        gone: when pools ceased to be, by key, in seconds since the epoch.
    """

    def __init__(self) -> None:
        self.wanted: Mapping[str, Wanted] = {}
        self.gone: Mapping[str, float] = {}

    def plan(self, pools: Iterable[Pool], now: float) -> None:
        """Note which pools there should be from now on."""
        current = {pool.key: pool for pool in pools}
        gone = {**self.gone, **dict.fromkeys(self.wanted.keys() - current.keys(), now)}
        self.wanted = {
            key: _follow(self.wanted.get(key), pool, now) for key, pool in current.items()
        }
        self.gone = {
            key: since
            for key, since in gone.items()
            if key not in current and now - since <= FOREIGN_SECONDS
        }


def _follow(before: Wanted | None, pool: Pool, now: float) -> Wanted:
    reduced = before.reduced if before is not None else 0.0
    if before is not None and pool.size < before.size:
        reduced = now
    return Wanted(pool.size, pool.ttl, reduced)
