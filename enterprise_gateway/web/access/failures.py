"""Counts wrong tokens by the address that they come from. Pure.

It counts different tokens, not requests: a client that repeats an old token every second tries
nothing. Addresses of IPv6 count by /64, the least that one customer has.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field

LIMIT = 20
"""How many wrong tokens may come from one address within `WINDOW_SECONDS`."""
WINDOW_SECONDS = 60.0
MAX_ADDRESSES = 4096


@dataclass(slots=True)
class _Window:
    began: float
    tokens: set[int] = field(default_factory=set)


class Failures:
    """The wrong tokens of the last minute, for as many addresses as `MAX_ADDRESSES`."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def add(self, address: str, token: str, now: float) -> int:
        """Count a wrong token.

        Args:
            address: Where it comes from.
            token: The token; only a hash of it is kept.
            now: Seconds of a clock that does not go back.

        Returns:
            How many have come from the address within the minute; 0 if this one is counted
            already, or the limit was exceeded before.
        """
        key = _network(address)
        window = self._current(key, now)
        if window is None:
            window = self._windows[key] = _Window(now)
            if len(self._windows) > MAX_ADDRESSES:
                self._windows.popitem(last=False)
        digest = hash(token)
        if digest in window.tokens or len(window.tokens) > LIMIT:
            return 0
        window.tokens.add(digest)
        return len(window.tokens)

    def seconds_left(self, address: str, now: float) -> float:
        """Return for how long an address has too many wrong tokens; 0: it has not."""
        window = self._current(_network(address), now)
        if window is None or len(window.tokens) <= LIMIT:
            return 0.0
        return window.began + WINDOW_SECONDS - now

    def _current(self, key: str, now: float) -> _Window | None:
        window = self._windows.get(key)
        if window is not None and now - window.began >= WINDOW_SECONDS:
            del self._windows[key]
            return None
        return window


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
