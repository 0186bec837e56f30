"""How many connections to the response port one peer address, and all together, may hold.

Reports take milliseconds, so whoever has been connected longest while places are short is the least
likely to be about to report: a newcomer takes the place of the oldest instead of being refused.
Silent peers can therefore not lock anybody out.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Hashable
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class ConnectionQuota(Generic[C]):
    """Book-keeping only: the caller closes what `admit` returns."""

    def __init__(self, per_address: int, total: int) -> None:
        self._per_address = per_address
        self._total = total
        self._all: OrderedDict[C, str] = OrderedDict()
        self._by_address: defaultdict[str, OrderedDict[C, None]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, connection: C, address: str) -> C | None:
        """Count a connection; return the one that has to go for it, if any, no longer counted."""
        evicted: C | None = None
        if len(self._by_address[address]) >= self._per_address:
            evicted = next(iter(self._by_address[address]))
        elif len(self._all) >= self._total:
            evicted = next(iter(self._all))
        if evicted is not None:
            self.release(evicted)
        self._all[connection] = address
        self._by_address[address][connection] = None
        return evicted

    def release(self, connection: C) -> None:
        """Stop counting a connection; harmless if it is not counted."""
        address = self._all.pop(connection, None)
        if address is None:
            return
        held = self._by_address[address]
        held.pop(connection, None)
        if not held:
            del self._by_address[address]
