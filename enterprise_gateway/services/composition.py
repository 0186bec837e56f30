"""The composition root: builds the services of one replica, starts and stops them in order."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.images import KernelImages
from enterprise_gateway.services.kernels.kernels import FindAccount, Kernels
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.services.sessions.sessions import Sessions
from enterprise_gateway.services.users import Account
from enterprise_gateway.settings import LiveSettings


class GatewayServices:
    """Everything behind the HTTP interface. Nothing is contacted before `running`.

    Attributes:
        events: spreads the events of kernels; who runs the services connects the sinks.
    """

    def __init__(
        self, live: LiveSettings, find_account: FindAccount = lambda _name: Account()
    ) -> None:
        """Build the services; by default nothing is known of users but their names."""
        self.proxies = ProxyRegistry(live)
        self.kernelspecs = Kernelspecs(live, self.proxies)
        self.events = EventBus()
        self.kernels = Kernels(live, self.proxies, self.kernelspecs, self.events, find_account)
        self.events.export(self.kernels.metrics)
        self.images = KernelImages(live, self.proxies, self.kernelspecs)
        self.sessions = Sessions(self.kernels, live)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the process proxies, and finish the work under way on the way out. Kernels go on."""
        await self.proxies.start()
        try:
            await self._load_named_proxies()
            try:
                yield
            finally:
                await self.images.close()
                await self.kernels.close()
        finally:
            await self.proxies.close()

    async def _load_named_proxies(self) -> None:
        """Load the process proxies that kernelspecs name.

        A site's own class may have kernels that another replica, or an earlier one, started.
        """
        for spec in (await self.kernelspecs.all()).values():
            # starting such a kernel raises the error again
            with contextlib.suppress(ConfigurationError):
                self.proxies.get(spec.proxy_class).expect_launches()
