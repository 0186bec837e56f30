"""Kernels: started, found, interrupted, restarted, ended."""

from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.proxies import Proxies
from enterprise_gateway.settings import LiveSettings


class Kernels:
    """All kernels of this gateway."""

    def __init__(self, live: LiveSettings, proxies: Proxies, kernelspecs: Kernelspecs) -> None:
        self._live = live
        self._proxies = proxies
        self._kernelspecs = kernelspecs

    async def start(self) -> None:
        """Begin to follow the workloads.

        Returns at once; an engine that does not answer is tried again.
        """

    async def close(self) -> None:
        """Stop following, and wait for kernels being ended. Kernels go on."""
