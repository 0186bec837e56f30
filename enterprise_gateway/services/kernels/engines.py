"""The engines behind the process proxies: asked with deadlines, and excused where there is none."""

import asyncio
import logging

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC, Workload
from enterprise_gateway.services.proxies import Proxies
from enterprise_gateway.settings import LiveSettings

ANSWER_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Engines:
    """Asks process proxies about workloads.

    The silence of an engine is a fault if it has answered before, or if the settings name it.
    Otherwise there simply is none, and local kernels work without Docker: requests do not ask it
    again. Should it appear, following its workloads will tell.
    """

    def __init__(self, live: LiveSettings, proxies: Proxies) -> None:
        self._live = live
        self._proxies = proxies
        self._answered: set[BaseProcessProxyABC] = set()
        self._listed: set[BaseProcessProxyABC] = set()
        self._absent: set[BaseProcessProxyABC] = set()

    def counts(self, proxy: BaseProcessProxyABC) -> bool:
        """Say whether the silence of a process proxy's engine is a fault."""
        return proxy in self._answered or bool(self._live.current.docker.host)

    def note_answer(self, proxy: BaseProcessProxyABC) -> None:
        """Note that a process proxy's engine is there."""
        self._answered.add(proxy)

    def to_ask(self) -> list[BaseProcessProxyABC]:
        """Return the process proxies whose engines may know of a workload."""
        return [
            proxy
            for proxy in self._proxies.all()
            if proxy not in self._absent or self.counts(proxy)
        ]

    def unlisted(self) -> list[BaseProcessProxyABC]:
        """Return those of `to_ask` that have not been asked for all their workloads yet."""
        return [proxy for proxy in self.to_ask() if proxy not in self._listed]

    async def observe(self, proxy: BaseProcessProxyABC, kernel_id: str) -> Workload | None:
        """Return one workload, None if there is none.

        Raises:
            UnavailableError: the engine does not answer, and its silence counts.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                workload = await proxy.observe(kernel_id)
        except (UnavailableError, TimeoutError) as exc:
            self._excuse(proxy, exc)
            return None
        self._answered.add(proxy)
        return workload

    async def list(self, proxy: BaseProcessProxyABC) -> list[Workload]:
        """Return all workloads of a process proxy.

        Raises:
            UnavailableError: as `observe`.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                workloads = await proxy.list()
        except (UnavailableError, TimeoutError) as exc:
            self._excuse(proxy, exc)
            return []
        self._answered.add(proxy)
        self._listed.add(proxy)
        return workloads

    def _excuse(self, proxy: BaseProcessProxyABC, exc: Exception) -> None:
        """Let the silence of an engine pass that does not count, raise otherwise."""
        if not self.counts(proxy):
            _log.debug("%s: there is no engine: %s", type(proxy).__name__, exc)
            self._absent.add(proxy)
            return
        if isinstance(exc, UnavailableError):
            raise exc
        raise UnavailableError(f"{type(proxy).__name__}: its engine does not answer") from exc
