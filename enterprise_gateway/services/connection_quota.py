"""A quota of idle connections to a port, per peer address and in all.

The connections that have been idle longest are the least likely to send a report or request: a new
connection replaces the oldest instead of being refused, so silent peers cannot lock others out.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Hashable
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class ConnectionQuota(Generic[C]):
    """Counts connections; the caller closes those that `admit` and `evict` return."""

    def __init__(self, per_address: int, total: int) -> None:
        self._per_address = per_address
        self._total = total
        self._all: OrderedDict[C, str] = OrderedDict()
        self._by_address: defaultdict[str, OrderedDict[C, None]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, connection: C, address: str = "") -> C | None:
        """Count a connection, and return the one that it replaces, if any.

        Args:
            connection: a new connection, or one that is idle again.
            address: its peer's address; "" counts for the total only.
        """
        evicted: C | None = None
        if address and len(self._by_address[address]) >= self._per_address:
            evicted = next(iter(self._by_address[address]))
            self.release(evicted)
        elif len(self._all) >= self._total:
            evicted = self.evict()
        self._all[connection] = address
        self._by_address[address][connection] = None
        return evicted

    def evict(self) -> C | None:
        """Stop counting the oldest connection and return it; None if there is none."""
        oldest = next(iter(self._all), None)
        if oldest is not None:
            self.release(oldest)
        return oldest

    def release(self, connection: C) -> None:
        """Stop counting a connection; harmless if it is not counted."""
        address = self._all.pop(connection, None)
        if address is None:
            return
        held = self._by_address[address]
        held.pop(connection, None)
        if not held:
            del self._by_address[address]
