"""The kernel ids whose launches by this replica are under way."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    ImagePull,
    LaunchRequest,
)


@dataclass(frozen=True, slots=True)
class Launching:
    """A kernel that this replica is launching."""

    proxy: BaseProcessProxyABC
    launch: LaunchRequest
    since: float
    """Seconds since the epoch."""

    @property
    def pull(self) -> ImagePull | None:
        """The pull of its image that it waits for."""
        return self.proxy.preparing(self.launch)


class LaunchReservations:
    """Reserves kernel ids while their workloads are being launched."""

    def __init__(self) -> None:
        self._launching: dict[str, Launching] = {}

    def __iter__(self) -> Iterator[Launching]:
        return iter(list(self._launching.values()))

    def __contains__(self, kernel_id: str) -> bool:
        return kernel_id in self._launching

    def get(self, kernel_id: str) -> Launching | None:
        """Return the launch of a kernel that is under way, if any."""
        return self._launching.get(kernel_id)

    @contextlib.contextmanager
    def reserve(self, proxy: BaseProcessProxyABC, launch: LaunchRequest) -> Iterator[None]:
        """Reserve the id of a kernel until the end of this context."""
        self._launching[launch.kernel_id] = Launching(proxy, launch, time.time())
        try:
            yield
        finally:
            del self._launching[launch.kernel_id]
