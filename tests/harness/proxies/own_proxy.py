"""Bring-your-own process proxies, as a site would write them: they launch nothing."""

import asyncio
from collections.abc import AsyncIterator

from enterprise_gateway.errors import LaunchError
from enterprise_gateway.services.processproxies.processproxy import (
    BaseProcessProxyABC,
    LaunchRequest,
    ReportingProcessProxy,
    Workload,
)


class OwnProcessProxy(BaseProcessProxyABC):
    """Refuses every launch, in words of its own."""

    closed = False

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    async def check(self) -> None:
        """Say nothing: it is always there."""

    async def launch(self, request: LaunchRequest) -> Workload:
        """Refuse."""
        raise LaunchError(f"No kernel {request.kernel_id} today.")

    async def observe(self, kernel_id: str) -> Workload | None:  # noqa: ARG002 - nothing is here
        """Find nothing."""
        return None

    async def list(self) -> list[Workload]:
        """Find nothing."""
        return []

    async def watch(self) -> AsyncIterator[Workload]:
        """See nothing, for ever."""
        await asyncio.Event().wait()
        for workload in await self.list():
            yield workload

    async def read_log(self, kernel_id: str, max_bytes: int) -> str:  # noqa: ARG002 - as above
        """Find nothing."""
        return ""

    async def remove(self, kernel_id: str) -> None:
        """Have nothing to remove."""


class OwnReportingProxy(OwnProcessProxy, ReportingProcessProxy):
    """The same with the gateway's tools."""
