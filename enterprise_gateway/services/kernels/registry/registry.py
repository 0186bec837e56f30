"""The kernels that this replica knows: a cache of what the engines and the agents report.

Engines report which workloads there are (`watch`), agents what their kernels do (one event stream
each). A kernel that died leaves a tombstone for some minutes, so that clients learn why. Nothing
here is needed to find a kernel again: another replica builds the same from the same sources.
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

from enterprise_gateway.errors import GatewayError, NotFoundError, UnavailableError
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.kernels.planning.launches import is_kernel_id
from enterprise_gateway.services.kernels.registry.ended import (
    RELAUNCH_SECONDS,
    TOMBSTONE_SECONDS,
    EndedKernels,
)
from enterprise_gateway.services.kernels.registry.events import KernelEvents
from enterprise_gateway.services.kernels.registry.exits import (
    Death,
    decide_exit,
    is_orphan,
)
from enterprise_gateway.services.kernels.registry.follower import WorkloadFollower
from enterprise_gateway.services.kernels.registry.links import AgentLinks
from enterprise_gateway.services.kernels.registry.lookup import WorkloadLookup
from enterprise_gateway.services.kernels.registry.metrics import KernelMetrics
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.recovery import LaunchRecovery
from enterprise_gateway.services.kernels.registry.reporter import ExitReporter
from enterprise_gateway.services.kernels.registry.reservations import LaunchReservations
from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    BaseProcessProxyABC,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings

RECENT_SECONDS = 120.0
RESUME_SECONDS = 10.0
"""How long a request waits for its kernel to go on."""
RESUMED_SECONDS = 2.0
"""How long the news of that may take, before the engine is asked."""
MAX_RESUMES = 8
"""How many kernels are resumed at once without a request that waits for it."""

_log = logging.getLogger(__name__)


class Registry:
    """Knows every kernel, and follows it.

    Attributes:
        launches: the kernels that this replica is launching.
        lookup: asks the engines for workloads.
        metrics: counts starts, deaths and automatic restarts.
        events: tells what happens to kernels.
    """

    def __init__(self, live: LiveSettings, proxies: ProxyRegistry, events: EventBus) -> None:
        self.events = KernelEvents(events)
        self.launches = LaunchReservations()
        self.lookup = WorkloadLookup(live, proxies)
        self.metrics = KernelMetrics()
        self._live = live
        self._records: dict[str, Record] = {}
        self._ended = EndedKernels()
        self._recovery = LaunchRecovery(live)
        self._reporter = ExitReporter(self.metrics, self.events)
        self._follower = WorkloadFollower(self.lookup, self._apply_news)
        self._links = AgentLinks(
            live, self._reporter.report_state, self._apply_final_state, self._check_unresponsive
        )
        self._resumes = asyncio.Semaphore(MAX_RESUMES)
        self._tasks = BackgroundTasks()

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    @property
    def last_activity(self) -> str:
        """The latest activity that any agent has reported; see `AgentLinks`."""
        return self._links.last_activity

    def follow(self, proxy: BaseProcessProxyABC) -> None:
        """Begin to follow a process proxy's workloads, unless that has begun."""
        self._follower.follow(proxy)

    async def close(self) -> None:
        """Stop following. Kernels go on."""
        self._ended.close()
        await self._recovery.close()
        await self._follower.close()
        await self._tasks.cancel()
        await self._links.close(list(self))
        self._records.clear()

    @contextlib.contextmanager
    def launching(self, proxy: BaseProcessProxyABC, launch: LaunchRequest) -> Iterator[None]:
        """Reserve a kernel id while its workload is being launched.

        Until the end of this context the kernel is in no list, and news of its workload is ignored.
        """
        try:
            with self.launches.reserve(proxy, launch):
                yield
        finally:
            record = self._records.get(launch.kernel_id)
            if record is None:
                self._ended.mark_failed(launch.kernel_id)
            if record is None or record.is_dead or launch.pool:
                # The launch failed, perhaps because another replica has launched that kernel; or
                # another replica has taken it from its pool already.
                self._tasks.begin(self._rediscover(proxy, launch.kernel_id))

    def get(self, kernel_id: str) -> Record | None:
        """Return the record of a kernel if there is one, without asking any engine."""
        return self._records.get(kernel_id)

    async def find(self, kernel_id: str) -> Record:
        """Return a kernel's record. An unknown kernel costs one engine call per process proxy.

        A kernel that another replica launches, or that waits in a pool, as far as is known, costs
        one call: another replica may have given it to a client already.

        Raises:
            NotFoundError: there is no such kernel.
            UnavailableError: an engine that may have it does not answer.
        """
        record = self._records.get(kernel_id)
        if record is not None and record.may_have_changed_hands:
            await self._rediscover(record.proxy, kernel_id)
        elif record is None and is_kernel_id(kernel_id):
            found = await self.lookup.locate(kernel_id)
            if found is not None:
                self._apply(*found)
        record = self._records.get(kernel_id)
        if record is None:
            raise NotFoundError(f"Kernel does not exist: {kernel_id}")
        return record

    async def find_successor(self, record: Record) -> Record | None:
        """Return the kernel that another replica has launched, or is launching, for a dead one.

        Raises:
            UnavailableError: the engine does not answer.
        """
        workload = await self.lookup.observe(record.proxy, record.kernel_id)
        if workload is None or workload.state is WorkloadState.DEAD:
            return None
        self._apply(record.proxy, workload)
        # The same record, if that changed nothing: its agent has told its final state.
        known = self._records.get(record.kernel_id)
        return known if known is not record else None

    async def ensure_listed(self) -> None:
        """Have every engine list its workloads once.

        Raises:
            UnavailableError: a required engine has not answered yet.
        """
        for proxy, workload in await self.lookup.list_all(only_unlisted=True):
            self._apply(proxy, workload)

    def add(self, proxy: BaseProcessProxyABC, workload: Workload, launch: LaunchRequest) -> Record:
        """Add a kernel that this replica has just launched."""
        self.lookup.mark_present(proxy)
        record = Record(proxy, workload, launch)
        self._replace(record)
        self._links.attach(record)
        return record

    async def end(self, record: Record, seconds: float, *, only_pooled: bool = False) -> None:
        """End a kernel and forget it.

        Its agent is asked first: it ends the kernel gracefully, and tells the other replicas that
        the end was requested. The engine then removes the rest of the workload.

        Args:
            record: the kernel.
            seconds: how long its agent may take.
            only_pooled: end it only if its agent says that it waits in a pool.

        Raises:
            ConflictError: it is in no pool, or not any more.
            UnavailableError: neither the agent nor the engine answered; it may still be there.
        """
        is_ended = False
        agent = record.agent
        if agent is not None:
            try:
                await self.wake(record)
                await agent.shutdown(seconds, only_pooled=only_pooled)
                is_ended = True
            except GatewayError as exc:
                if only_pooled and not record.is_over.is_set():
                    raise
                # news of the end may arrive before the answer, and cuts the connection
                is_ended = record.is_over.is_set()
                if not is_ended:
                    _log.warning("Kernel %s is ended by force: %s", record.kernel_id, exc)
        try:
            await record.proxy.remove(record.kernel_id)
        except UnavailableError:
            if not is_ended:
                raise
        if not record.is_dead:
            self.events.ended(record)
        self.forget(record)

    def forget(self, record: Record) -> None:
        """Forget a kernel."""
        kernel_id = record.kernel_id
        if self._records.get(kernel_id) is record:
            del self._records[kernel_id]
            self._ended.mark(record.workload)
        record.forget()
        self._links.detach(record)

    def unknown_death(self, record: Record) -> Death | None:
        """Return how a kernel died that no client knew; None: it lives, or ended on request."""
        return self._reporter.unknown_death(record)

    async def refresh(self, record: Record) -> None:
        """Make a record current by asking its agent, and the engine if the agent does not answer.

        While the agent's event stream is open, the agent is asked only if this replica has just
        opened or closed a WebSocket to it: the stream reports that a moment later.

        Raises:
            UnavailableError: neither answers.
        """
        if record.is_paused and record.state is not None:
            return  # it cannot change
        agent = record.agent
        if record.is_dead or agent is None:
            return
        if not record.is_silent.is_set():
            if agent.is_changed:
                await self.refresh_states([record])
            return
        await self.wake(record)
        asking = asyncio.ensure_future(agent.state())
        try:
            # An agent whose machine has lost its power does not refuse; the engine knows sooner.
            either: set[asyncio.Future[Any]] = {asking, agent.gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                self._links.apply_state(record, asking.result())
        except UnavailableError:
            await self._recheck_engine(record)
            if not record.is_dead and self._records.get(record.kernel_id) is record:
                raise
        finally:
            asking.cancel()

    async def wake(self, record: Record) -> None:
        """Have a kernel go on if it is paused, and not be paused while a request is sent to it.

        Raises:
            UnavailableError: the engine does not answer in time.
        """
        record.note_use(self._live.current.delays.request_seconds)
        await self._resume(record)

    async def refresh_all(self) -> None:
        """Ask all engines and agents, so that what is found nowhere does not exist.

        Callers at the same time share one round of questions. It begins after each of their calls:
        what was there before a call is found.

        Raises:
            UnavailableError: a required engine does not answer.
        """
        present = self._tasks.find(self._ask_all)
        if present is not None:
            await asyncio.wait({present})
        await self._tasks.wait(self._tasks.begin_once(self._ask_all, self._ask_all))

    async def _ask_all(self) -> None:
        for proxy, workload in await self.lookup.list_all():
            self._apply(proxy, workload)
        await self.refresh_states(self)

    async def refresh_states(self, records: Iterable[Record]) -> None:
        """Ask agents for their states, to know what other replicas have just done.

        A record whose agent does not answer keeps its state.
        """
        await self._links.refresh(record for record in records if not record.is_dead)

    async def refresh_recent(self) -> None:
        """Ask the agents of recent kernels, as `refresh_states`."""
        since = time.time() - RECENT_SECONDS
        await self.refresh_states(record for record in self if record.workload.created > since)

    async def _rediscover(self, proxy: BaseProcessProxyABC, kernel_id: str) -> None:
        """Ask the engine for a kernel whose news may have been ignored."""
        with contextlib.suppress(UnavailableError):
            workload = await self.lookup.observe(proxy, kernel_id)
            if workload is not None:
                self._apply(proxy, workload)

    def _apply_news(self, proxy: BaseProcessProxyABC, workload: Workload) -> None:
        """Apply an engine's report of a workload, which no other has overtaken."""
        self._apply(proxy, workload, may_be_late=False)

    def _apply(
        self, proxy: BaseProcessProxyABC, workload: Workload, *, may_be_late: bool = True
    ) -> None:
        """Apply an engine's report of a workload; see `Record.apply_workload`."""
        if workload.state in (WorkloadState.DEAD, WorkloadState.GONE):
            self._apply_end(proxy, workload)
            return
        if self._ended.covers(workload) or workload.kernel_id in self.launches:
            return
        record = self._records.get(workload.kernel_id)
        if record is None or record.is_dead or workload.succeeds(record.workload):
            if record is not None and workload.created <= record.workload.created:
                return
            record = Record(proxy, workload)
            self._replace(record)
        launch_timeout = self._live.current.kernels.launch_timeout
        record.apply_workload(workload, launch_timeout, may_be_late=may_be_late)
        self._links.attach(record)
        if _must_resume(record):
            self._tasks.begin_once((self._resume_later, record), lambda: self._resume_later(record))
        if workload.state is WorkloadState.RUNNING:
            self._recovery.recover(record)

    async def _resume(self, record: Record) -> None:
        """Have a kernel go on if it is paused.

        Raises:
            UnavailableError: the engine does not answer in time.
        """
        if not record.is_paused:
            return
        resuming = self._tasks.begin_once((self._keep_on, record), lambda: self._keep_on(record))
        try:
            async with asyncio.timeout(RESUME_SECONDS):
                await self._tasks.wait(resuming)
        except TimeoutError as exc:
            raise UnavailableError(
                f"Kernel {record.kernel_id} is paused, and its engine does not let it go on"
            ) from exc

    async def _keep_on(self, record: Record) -> None:
        """Have a kernel go on. Another replica may be about to pause it."""
        while record.is_paused:
            failure: UnavailableError | None = None
            try:
                await record.proxy.resume(record.workload)
            except UnavailableError as exc:
                failure = exc  # engines refuse what another replica has just done
            try:
                async with asyncio.timeout(RESUMED_SECONDS):
                    await record.is_awake.wait()
            except TimeoutError:
                await self._recheck_engine(record)
                if failure is not None and record.is_paused:
                    raise failure from None

    async def _resume_later(self, record: Record) -> None:
        """Task root: have a kernel go on that nothing waits for."""
        try:
            async with self._resumes:
                while _must_resume(record):  # it may be paused anew meanwhile
                    await self._resume(record)
        except GatewayError as exc:
            _log.warning("Kernel %s stays paused: %s", record.kernel_id, exc)

    def _replace(self, record: Record) -> None:
        """Add a record, in the place of that of an earlier workload."""
        former = self._records.get(record.kernel_id)
        if former is not None:
            self.forget(former)
            record.inherit(former)
        self._ended.unmark(record.kernel_id)
        self._records[record.kernel_id] = record

    def _apply_end(self, proxy: BaseProcessProxyABC, workload: Workload) -> None:
        """Apply the exit of a workload, or the removal of its tombstone."""
        record = self._records.get(workload.kernel_id)
        if record is None:
            if workload.state is WorkloadState.DEAD:
                self._apply_tombstone(proxy, workload)
            return
        if record.workload.succeeds(workload):
            return
        record.apply_owner(workload)
        if workload.state is WorkloadState.GONE:
            self._settle(record, workload)
        elif not record.is_dead:
            self._tasks.begin(self._settle_later(record, workload))
            return
        elif workload.exit_reason != ORDERLY_EXIT:
            return
        if record.is_dead:
            # Another replica has deleted the kernel, or is about to launch it again.
            self._expire_later(record, RELAUNCH_SECONDS)

    def _apply_tombstone(self, proxy: BaseProcessProxyABC, workload: Workload) -> None:
        """Apply the tombstone of a kernel that is not known here."""
        if not workload.is_tombstone or workload.kernel_id in self.launches:
            return
        if self._ended.covers(workload):
            self._tasks.begin(self._remove_stale(proxy, workload))
            return
        record = Record(proxy, workload, is_claimed=True)
        self._replace(record)
        self._settle(record, workload)
        self._recovery.recover(record)

    def _apply_final_state(self, record: Record) -> None:
        """Settle a kernel whose agent said that it is dead, and closed its stream."""
        self._settle(record, record.workload)

    async def _check_unresponsive(self, record: Record) -> None:
        """Check on a kernel whose agent does not answer: it may be dead, or an orphan."""
        await self._recheck_engine(record)
        if not self._links.has_reached(record.proxy):
            return  # a firewall may refuse the connections
        orphan_seconds = self._live.current.delays.orphan_seconds
        if is_orphan(record, asyncio.get_running_loop().time(), orphan_seconds):
            _log.warning(
                "Kernel %s is removed: its workload runs without an agent", record.kernel_id
            )
            await record.proxy.remove_workload(record.workload)
            self.events.ended(record)
            self.forget(record)

    async def _recheck_engine(self, record: Record) -> None:
        """Ask the engine about a kernel whose agent does not answer."""
        workload = await self.lookup.observe(record.proxy, record.kernel_id)
        if workload is not None and workload.state is not WorkloadState.DEAD:
            self._apply(record.proxy, workload, may_be_late=False)
            return
        # The engine's own news of the exit, on its way by now, says more of the reason.
        await self._wait_for_final_state(record.is_over)
        self._settle(record, workload or record.workload)

    async def _settle_later(self, record: Record, workload: Workload) -> None:
        """Settle the exit of a workload once its agent's final state has arrived."""
        await self._wait_for_final_state(record.is_silent)
        self._settle(record, workload)

    def _settle(self, record: Record, workload: Workload) -> None:
        """Draw the conclusions from the exit of a kernel's workload.

        Args:
            record: the kernel. Nothing happens if it has another record by now, since it was
                launched again.
            workload: what the engine says of the exit, if anything.
        """
        if self._records.get(record.kernel_id) is not record or record.is_dead:
            return
        decision = decide_exit(record, workload)
        if decision.death is not None and decision.is_known:
            self._reporter.report_death(record, decision.death)
            record.die(decision.death.reason)
            self._links.detach(record)
            self._expire_later(record)
            return
        self._reporter.report_end(record, decision)
        self.forget(record)
        if workload.is_tombstone:
            self._tasks.begin(self._remove_stale(record.proxy, workload))

    def _expire_later(self, record: Record, seconds: float = TOMBSTONE_SECONDS) -> None:
        """Forget a dead kernel after some time, unless it is being launched again then."""
        expire = functools.partial(self._expire, record)
        self._ended.expire_later(record.kernel_id, expire, seconds)

    def _expire(self, record: Record) -> None:
        if record.kernel_id in self.launches:
            self._expire_later(record)
        else:
            self.forget(record)

    async def _wait_for_final_state(self, event: asyncio.Event) -> None:
        """Wait for the event after which an agent tells no more, but not for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._live.current.delays.final_state_seconds):
                await event.wait()

    async def _remove_stale(self, proxy: BaseProcessProxyABC, workload: Workload) -> None:
        """Remove a tombstone that tells clients nothing, once its launcher has read its log."""
        await asyncio.sleep(self._live.current.delays.stale_tombstone_seconds)
        with contextlib.suppress(GatewayError):
            await proxy.remove_workload(workload)


def _must_resume(record: Record) -> bool:
    """Say whether a kernel is paused that this replica has just asked something, or knows not."""
    return record.is_paused and (record.is_in_use or record.state is None)
