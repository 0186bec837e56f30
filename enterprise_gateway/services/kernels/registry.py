"""The kernels that this gateway knows: a cache of what the engines and the agents say.

Engines say which workloads there are (`watch`), agents what their kernels do (one event stream
each). A workload that died by itself leaves a tombstone for some minutes, so that a client learns
why. Nothing here is needed to find a kernel again: another gateway process builds the same from the
same sources.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from enterprise_gateway.errors import GatewayError, NotFoundError, UnavailableError
from enterprise_gateway.services.kernels.deaths import Deaths, wait_for_last_words
from enterprise_gateway.services.kernels.ended import Ended
from enterprise_gateway.services.kernels.engines import Engines
from enterprise_gateway.services.kernels.fate import is_orphan
from enterprise_gateway.services.kernels.launches import is_kernel_id
from enterprise_gateway.services.kernels.links import AgentLinks
from enterprise_gateway.services.kernels.origins import Origins
from enterprise_gateway.services.kernels.records import Record
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.proxies import Proxies
from enterprise_gateway.settings import LiveSettings

RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 2.0
YOUNG_SECONDS = 120.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launching:
    """A kernel whose launch has not come to its end."""

    launch: LaunchRequest
    since: float
    """Seconds since the epoch."""


class Registry:
    """Knows every kernel, and follows it."""

    def __init__(self, live: LiveSettings, proxies: Proxies) -> None:
        self._live = live
        self.engines = Engines(live, proxies)
        self._records: dict[str, Record] = {}
        self._ended = Ended()
        self._origins = Origins(live)
        self._followers: dict[BaseProcessProxyABC, asyncio.Task[None]] = {}
        self._launching: dict[str, Launching] = {}
        self._links = AgentLinks(live, self._take_last_words, self._look_after)
        self._deaths = Deaths(
            self._records, self._launching, self._ended, self.drop, self._links.detach
        )
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    def follow(self, proxy: BaseProcessProxyABC) -> None:
        """Begin to follow a process proxy's workloads, if that has not been begun yet."""
        if proxy not in self._followers:
            self._followers[proxy] = asyncio.create_task(self._follow(proxy))

    async def close(self) -> None:
        """Stop following. Nothing happens to the kernels."""
        self._ended.close()
        await self._origins.close()
        await self._deaths.close()
        tasks = [*self._followers.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._links.close(list(self))
        self._records.clear()

    @contextlib.contextmanager
    def launching(self, proxy: BaseProcessProxyABC, launch: LaunchRequest) -> Iterator[None]:
        """Reserve a kernel id while its workload is being launched.

        Until then it is in nobody's list, and news of its workload is passed over.
        """
        self._launching[launch.kernel_id] = Launching(launch, time.time())
        try:
            yield
        finally:
            del self._launching[launch.kernel_id]
            record = self._records.get(launch.kernel_id)
            if record is None or record.death is not None:
                # The launch failed, perhaps since another gateway process has launched that kernel.
                self._spawn(self._look_for(proxy, launch.kernel_id))

    def launches(self) -> list[Launching]:
        """Return the kernels that are being launched by this gateway process."""
        return list(self._launching.values())

    def known(self, kernel_id: str) -> Record | None:
        """Return what is known of a kernel, without asking anybody."""
        return self._records.get(kernel_id)

    async def find(self, kernel_id: str) -> Record:
        """Return a kernel's record; one that is not known costs one engine call per process proxy.

        One that is only starting, as far as is known, costs one call: another gateway process may
        have told a client already that it runs.

        Raises:
            NotFoundError: there is no such kernel.
            UnavailableError: an engine that may have it does not answer.
        """
        record = self._records.get(kernel_id)
        if record is not None and record.agent is None and record.death is None:
            await self._look_for(record.proxy, kernel_id)
        elif record is None and is_kernel_id(kernel_id):
            found = await self.engines.locate(kernel_id)
            if found is not None:
                self._take(*found)
        record = self._records.get(kernel_id)
        if record is None:
            raise NotFoundError(f"Kernel does not exist: {kernel_id}")
        return record

    async def find_successor(self, record: Record) -> Record | None:
        """Return what another gateway process has launched, or is launching, for a dead kernel.

        Raises:
            UnavailableError: the engine does not answer.
        """
        workload = await self.engines.observe(record.proxy, record.kernel_id)
        if workload is None or workload.state is WorkloadState.DEAD:
            return None
        self._take(record.proxy, workload)
        # If that changed nothing, it is still the one whose agent has said its last words.
        known = self._records.get(record.kernel_id)
        return known if known is not record else None

    async def ensure_listed(self) -> None:
        """See to it that every engine has been asked for its workloads once.

        Raises:
            UnavailableError: an engine that counts has not answered yet.
        """
        for proxy, workload in await self.engines.list_all(only_unlisted=True):
            self._take(proxy, workload)

    def add(self, proxy: BaseProcessProxyABC, workload: Workload, launch: LaunchRequest) -> Record:
        """Take up a kernel that has just been launched."""
        self.engines.note_answer(proxy)
        record = Record(proxy, workload, launch, is_public=True)
        self._put(record)
        self._links.attach(record)
        return record

    async def end(self, record: Record, seconds: float) -> None:
        """End a kernel and forget it.

        Its agent is asked first: it ends the kernel gracefully, and the other gateway processes
        learn from it that this was meant. What it leaves of the workload the engine removes.

        Args:
            record: the kernel.
            seconds: what the agent has for that.

        Raises:
            UnavailableError: neither the agent nor the engine answered; it may still be there.
        """
        is_ended = False
        if record.agent is not None:
            try:
                await record.agent.shutdown(seconds)
                is_ended = True
            except GatewayError as exc:
                _log.warning("Kernel %s is ended by force: %s", record.kernel_id, exc)
        try:
            await record.proxy.remove(record.kernel_id)
        except UnavailableError:
            if not is_ended:
                raise
        self.drop(record)

    def drop(self, record: Record) -> None:
        """Forget a kernel that was ended on purpose."""
        kernel_id = record.kernel_id
        if self._records.get(kernel_id) is record:
            del self._records[kernel_id]
            self._ended.mark(record.workload)
        record.is_over.set()
        self._links.detach(record)

    async def refresh(self, record: Record) -> None:
        """Make a record current by asking its agent, and the engine if the agent does not answer.

        Raises:
            UnavailableError: neither is to be had.
        """
        agent = record.agent
        if not record.is_silent.is_set() or record.death is not None or agent is None:
            return
        asking = asyncio.ensure_future(agent.state())
        try:
            # An agent whose machine has lost its power does not refuse; the engine knows sooner.
            either: set[asyncio.Future[Any]] = {asking, agent.gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                record.learn(asking.result())
        except UnavailableError:
            await self._reconsider(record)
            if record.death is None and self._records.get(record.kernel_id) is record:
                raise
        finally:
            asking.cancel()

    async def look_again(self) -> None:
        """Ask all engines and agents, before it is said that something is nowhere.

        Raises:
            UnavailableError: an engine that counts does not answer.
        """
        for proxy, workload in await self.engines.list_all():
            self._take(proxy, workload)
        await self.ask(self)

    async def ask(self, records: Iterable[Record]) -> None:
        """Ask agents for their state, to know what other gateway processes have just done.

        Those that do not answer keep the state that they had.
        """
        await self._links.ask(record for record in records if record.death is None)

    async def ask_young(self) -> None:
        """Ask the agents of young kernels, as `ask`."""
        since = time.time() - YOUNG_SECONDS
        await self.ask(record for record in self if record.workload.created > since)

    async def _follow(self, proxy: BaseProcessProxyABC) -> None:
        retry = RETRY_SECONDS
        while True:
            try:
                for workload in await self.engines.list(proxy):
                    self._take(proxy, workload)
                async for workload in proxy.watch():
                    self.engines.note_answer(proxy)
                    self._take(proxy, workload)
                    retry = RETRY_SECONDS
            except UnavailableError as exc:
                _log.debug("%s: %s", type(proxy).__name__, exc)
            except Exception:  # noqa: BLE001 - a task's root: following must go on, whatever it is
                _log.exception("%s stopped telling of its workloads", type(proxy).__name__)
            await asyncio.sleep(retry)
            retry = min(2 * retry, MAX_RETRY_SECONDS)

    async def _look_for(self, proxy: BaseProcessProxyABC, kernel_id: str) -> None:
        """Take up a kernel of which news may have been passed over."""
        with contextlib.suppress(UnavailableError):
            workload = await self.engines.observe(proxy, kernel_id)
            if workload is not None:
                self._take(proxy, workload)

    def _take(self, proxy: BaseProcessProxyABC, workload: Workload) -> None:
        """Take in what an engine says of a workload."""
        record = self._records.get(workload.kernel_id)
        if workload.state in (WorkloadState.DEAD, WorkloadState.GONE):
            if record is None:
                self._take_tombstone(proxy, workload)
            elif not record.workload.succeeds(workload):
                self._deaths.take(record, workload)
            return
        if self._ended.covers(workload):
            return
        if workload.kernel_id in self._launching:
            return
        if record is None or record.death is not None or workload.succeeds(record.workload):
            if record is not None and workload.created <= record.workload.created:
                return
            record = Record(proxy, workload)
            self._put(record)
        record.workload = workload
        if record.state is None:
            timeout = self._live.current.kernels.launch_timeout
            is_starting = workload.state is WorkloadState.STARTING
            record.pending_until = math.inf if is_starting else workload.created + timeout
        self._links.attach(record)
        if workload.state is WorkloadState.RUNNING:
            self._origins.learn(record)

    def _put(self, record: Record) -> None:
        """Take up a record, in the place of that of an earlier workload."""
        known = self._records.get(record.kernel_id)
        if known is not None:
            self.drop(known)
            record.inherit(known)
        self._ended.unmark(record.kernel_id)
        self._records[record.kernel_id] = record

    def _take_tombstone(self, proxy: BaseProcessProxyABC, workload: Workload) -> None:
        """Take in that a workload is dead of which nothing is known here."""
        if not workload.is_tombstone or workload.kernel_id in self._launching:
            return
        if self._ended.covers(workload):
            self._deaths.sweep(proxy, workload)
            return
        record = Record(proxy, workload, is_public=True)
        self._put(record)
        self._deaths.settle(record, workload)
        self._origins.learn(record)

    def _take_last_words(self, record: Record) -> None:
        self._deaths.settle(record, record.workload)

    async def _look_after(self, record: Record) -> None:
        """See to a kernel whose agent does not answer: it may be dead, or of no use to anybody."""
        await self._reconsider(record)
        if not self._links.has_reached(record.proxy):
            return  # what refuses connections may be a firewall
        if is_orphan(record, asyncio.get_running_loop().time()):
            _log.warning(
                "Kernel %s is removed: its workload runs, but nothing listens where its agent "
                "should",
                record.kernel_id,
            )
            await record.proxy.sweep(record.workload)
            self.drop(record)

    async def _reconsider(self, record: Record) -> None:
        """Ask the engine about a kernel whose agent does not answer."""
        workload = await self.engines.observe(record.proxy, record.kernel_id)
        if workload is not None and workload.state is not WorkloadState.DEAD:
            self._take(record.proxy, workload)
            return
        # The engine's own news of it, on its way by now, says more of why.
        await wait_for_last_words(record.is_over)
        self._deaths.settle(record, workload or record.workload)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
