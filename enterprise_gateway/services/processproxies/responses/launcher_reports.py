"""The reports of launchers for one kernel, by the sender's address."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enterprise_gateway.services.processproxies.responses.launcher_payload import ConnectionInfo

MAX_SENDERS = 64
"""Any container in the kernels' network may send reports, from its own addresses."""
_IDENTIFIED_SENDERS = 8


class LauncherReports:
    """Keeps the last report of each sender, and decodes only that of the kernel's own address.

    The engine knows that address. Other reports cost memory only, so one kernel's container cannot
    keep the gateway busy during the launch of another.
    """

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        """Set at each report."""
        self.senders: list[str] = []
        """The addresses from which launchers of this kernel have reported, after `identify`."""
        self.is_refused = False
        """Whether one came although launchers are not heard."""
        self._decoders: OrderedDict[str, Decode] = OrderedDict()

    def add(self, address: str, decode: Decode) -> None:
        """Add a report, which replaces an earlier one of the same sender.

        Args:
            address: the sender's.
            decode: returns the connection information, None if the report is malformed or for
                another kernel; called in a thread.
        """
        self._decoders.pop(address, None)
        self._decoders[address] = decode
        if len(self._decoders) > MAX_SENDERS:
            self._decoders.popitem(last=False)
        self.arrived.set()

    async def identify(self) -> None:
        """Fill `senders` with those of the latest senders that are launchers of this kernel."""
        for address in [*self._decoders][-_IDENTIFIED_SENDERS:]:
            if await self.read(address) is not None:
                self.senders.append(address)

    async def read(self, address: str) -> ConnectionInfo | None:
        """Return the connection information in a sender's report, None if there is none."""
        decode = self._decoders.get(address)
        return None if decode is None else await asyncio.to_thread(decode)


Decode = Callable[[], "ConnectionInfo | None"]
