"""What a gateway remembers of pools as they were, to know what is left of them. Pure."""

from collections.abc import Iterable, Mapping

from enterprise_gateway.services.kernels.pools.balance import FOREIGN_SECONDS, Wanted
from enterprise_gateway.services.kernels.pools.pool import Pool
from enterprise_gateway.settings.values.schedule import PAUSE


class PoolHistory:
    """The pools that there should be, and when others became smaller or ceased to be.

    Attributes:
        wanted: the pools as they should be now, by key.
        gone: when pools ceased to be, by key, in seconds since the epoch.
    """

    def __init__(self) -> None:
        self.wanted: Mapping[str, Wanted] = {}
        self.gone: Mapping[str, float] = {}
        self._images: dict[str, str] = {}
        """The image that was last seen of each pool for which nodes pull it, by key."""

    def plan(self, pools: Iterable[Pool], now: float) -> None:
        """Note which pools there should be from now on."""
        current = {pool.key: pool for pool in pools}
        gone = {**self.gone, **dict.fromkeys(self.wanted.keys() - current.keys(), now)}
        self.wanted = {
            key: self._follow(self.wanted.get(key), pool, now) for key, pool in current.items()
        }
        seen = {key: pool.nodes_image_id for key, pool in current.items() if pool.nodes_image_id}
        kept = {key: image for key, image in self._images.items() if key in current}
        self._images = {**kept, **seen}
        self.gone = {key: since for key, since in gone.items() if now - since <= FOREIGN_SECONDS}

    def _follow(self, before: Wanted | None, pool: Pool, now: float) -> Wanted:
        before = before or Wanted(0)
        size = before.size if pool.size == PAUSE else pool.size
        image = pool.nodes_image_id
        is_other = image and image != self._images.get(pool.key, image)
        return Wanted(
            size,
            is_paused=pool.size == PAUSE,
            ttl=pool.ttl,
            reduced=now if size < before.size else before.reduced,
            renewed=now if is_other else before.renewed,
        )
