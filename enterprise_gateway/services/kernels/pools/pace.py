"""How fast pools are filled: users' starts and first cells come first. Pure."""

from dataclasses import dataclass

QUIET_SECONDS = 2.0
"""How long after a kernel was taken the next is launched: its user's first cells come first."""
MAX_QUIET_SECONDS = 10.0
"""For how long this may go on, as kernels are taken: a pool must be filled while it is used."""
MAX_LAUNCHES = 2
"""How many kernels are launched at once: for one pool, and for all whose image is there."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a gateway does now, as far as a pool's next launch goes."""

    waiting: int
    """Users' starts that wait for their turn."""
    launching: int
    """Launches for all pools, but for those that still wait for an image."""
    of_pool: int
    """Launches for this pool, in whatever step."""
    since_taken: float
    """Seconds since a kernel was last taken from any pool."""
    since_missing: float
    """Seconds since a kernel has been missing in this pool without a break."""


def may_launch(load: Load) -> bool:
    """Say whether a kernel may be launched for a pool now."""
    if load.waiting or max(load.launching, load.of_pool) >= MAX_LAUNCHES:
        return False
    return load.since_taken >= QUIET_SECONDS or load.since_missing >= MAX_QUIET_SECONDS
