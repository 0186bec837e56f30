"""Looks up workloads in the engines behind the process proxies, with deadlines."""

import asyncio
import contextlib
import dataclasses
import logging

from enterprise_gateway.errors import NotFoundError, UnavailableError
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.settings import LiveSettings

ANSWER_SECONDS = 5.0
"""How long an engine may take to answer for a client's request."""
LIST_SECONDS = 10.0
"""How long an engine may take to list its workloads before they are followed."""

Found = tuple[BaseProcessProxyABC, Workload]
FoundList = list[Found]
WorkloadList = list[Workload]

_log = logging.getLogger(__name__)


class WorkloadLookup:
    """Asks process proxies for workloads.

    An engine is required if it has answered before, or if the settings name it: its silence is a
    fault. An optional one that is silent is taken to be absent, so that local kernels work without
    Docker, and requests do not ask it again. Following its workloads tells if it appears.
    """

    def __init__(self, live: LiveSettings, proxies: ProxyRegistry) -> None:
        self._live = live
        self._proxies = proxies
        self._answered: set[BaseProcessProxyABC] = set()
        self._listed: set[BaseProcessProxyABC] = set()
        self._absent: set[BaseProcessProxyABC] = set()

    def is_required(self, proxy: BaseProcessProxyABC) -> bool:
        """Say whether the silence of a process proxy's engine is a fault."""
        return proxy in self._answered or bool(self._live.current.docker.host)

    def mark_present(self, proxy: BaseProcessProxyABC) -> None:
        """Remember that a process proxy's engine is there, and so is required from now on."""
        self._answered.add(proxy)

    def candidates(self) -> list[BaseProcessProxyABC]:
        """Return the process proxies whose engines may have a workload."""
        return [
            proxy
            for proxy in self._proxies.all()
            if proxy not in self._absent or self.is_required(proxy)
        ]

    async def locate(self, kernel_id: str) -> Found | None:
        """Ask all engines at once for a kernel; return its first living workload, or a dead one.

        Raises:
            UnavailableError: a required engine does not answer, and no other has it.
        """
        questions = [
            asyncio.create_task(self._find_in(proxy, kernel_id)) for proxy in self.candidates()
        ]
        dead: Found | None = None
        silence: UnavailableError | None = None
        try:
            for answer in asyncio.as_completed(questions):
                try:
                    found = await answer
                except UnavailableError as exc:
                    silence = exc
                    continue
                if found is not None and found[1].state is not WorkloadState.DEAD:
                    return found
                dead = found or dead
        finally:
            for question in questions:
                question.cancel()
            await asyncio.gather(*questions, return_exceptions=True)
        if dead is None and silence is not None:
            raise silence
        return dead

    async def list_all(self, *, only_unlisted: bool = False) -> FoundList:
        """Ask all engines at once for their workloads.

        Args:
            only_unlisted: ask only the engines that have never listed their workloads.

        Raises:
            UnavailableError: a required engine does not answer.
        """
        proxies = [
            proxy for proxy in self.candidates() if not only_unlisted or proxy not in self._listed
        ]
        lists = await asyncio.gather(*(self.list(proxy, ANSWER_SECONDS) for proxy in proxies))
        return [
            (proxy, workload)
            for proxy, workloads in zip(proxies, lists, strict=True)
            for workload in workloads
        ]

    async def list_around(self, around: float) -> WorkloadList:
        """Ask all engines at once for their workloads, with creation times exact enough to compare.

        Args:
            around: a creation time. Those within a second of it are asked for exactly.

        Raises:
            UnavailableError: a required engine does not answer.
        """
        found: WorkloadList = []
        for proxy, workload in await self.list_all():
            if abs(workload.created - around) >= 1.0:
                found.append(workload)
                continue
            with contextlib.suppress(NotFoundError):
                created = await proxy.created(workload)
                found.append(dataclasses.replace(workload, created=created))
        return found

    async def observe(self, proxy: BaseProcessProxyABC, kernel_id: str) -> Workload | None:
        """Return one workload, None if there is none.

        Raises:
            UnavailableError: the engine is required and does not answer.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                workload = await proxy.observe(kernel_id)
        except (UnavailableError, TimeoutError) as exc:
            self._ignore_if_optional(proxy, exc)
            return None
        self._answered.add(proxy)
        return workload

    async def list(
        self, proxy: BaseProcessProxyABC, seconds: float = LIST_SECONDS
    ) -> list[Workload]:
        """Return all workloads of a process proxy.

        Raises:
            UnavailableError: as `observe`.
        """
        try:
            async with asyncio.timeout(seconds):
                workloads = await proxy.list()
        except (UnavailableError, TimeoutError) as exc:
            self._ignore_if_optional(proxy, exc)
            return []
        self._answered.add(proxy)
        self._listed.add(proxy)
        return workloads

    async def _find_in(self, proxy: BaseProcessProxyABC, kernel_id: str) -> Found | None:
        workload = await self.observe(proxy, kernel_id)
        return (proxy, workload) if workload is not None else None

    def _ignore_if_optional(self, proxy: BaseProcessProxyABC, exc: Exception) -> None:
        """Take an optional engine that is silent to be absent; raise if it is required."""
        if not self.is_required(proxy):
            _log.debug("%s: no engine: %s", type(proxy).__name__, exc)
            self._absent.add(proxy)
            return
        if isinstance(exc, UnavailableError):
            raise exc
        raise UnavailableError(f"{type(proxy).__name__}: its engine does not answer") from exc
