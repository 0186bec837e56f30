"""What the services need of the registry of process proxies."""

from collections.abc import Sequence
from typing import Protocol

from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC


class Proxies(Protocol):
    """Where process proxies are had by the name of their class."""

    def get(self, class_name: str) -> BaseProcessProxyABC:
        """Return the process proxy of that dotted class name.

        Raises:
            ConfigurationError: there is no such class.
        """

    def all(self) -> Sequence[BaseProcessProxyABC]:
        """Return every process proxy that may have workloads."""
