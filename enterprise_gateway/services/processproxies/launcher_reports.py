"""What has come for one kernel from launchers that are no agents, by the sender's address."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enterprise_gateway.services.processproxies.launcher_payload import ConnectionInfo

MAX_SENDERS = 64
"""Anybody in the kernels' network may send, from the addresses of the own containers."""


class LauncherReports:
    """Keeps one report of each sender: which is the kernel's own, the engine will tell."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        """Set at each report."""
        self._reports: OrderedDict[str, ConnectionInfo] = OrderedDict()

    @property
    def senders(self) -> list[str]:
        """The addresses that reports have come from."""
        return list(self._reports)

    def put(self, address: str, info: ConnectionInfo) -> None:
        """Take in a report; a later one of the same sender replaces it."""
        self._reports.pop(address, None)
        self._reports[address] = info
        if len(self._reports) > MAX_SENDERS:
            self._reports.popitem(last=False)
        self.arrived.set()

    def get(self, address: str) -> ConnectionInfo | None:
        """Return the report of one sender."""
        return self._reports.get(address)
