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
        before, sizes = self.wanted, {pool.key: pool.size for pool in pools}
        self.wanted = {
            key: _follow(before.get(key, Wanted(size)), size, now) for key, size in sizes.items()
        }
        gone = {**self.gone, **dict.fromkeys(before.keys() - sizes.keys(), now)}
        self.gone = {
            key: since
            for key, since in gone.items()
            if key not in sizes and now - since <= FOREIGN_SECONDS
        }


def _follow(before: Wanted, size: int, now: float) -> Wanted:
    return Wanted(size, now if size < before.size else before.reduced)
