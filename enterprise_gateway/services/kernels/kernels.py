"""The kernel service: start, find, interrupt, restart and end kernels."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

import msgspec
from prometheus_client import CollectorRegistry

from enterprise_gateway.errors import (
    ConflictError,
    GatewayError,
    LaunchError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.kernels.access.rights import KernelAccess, Right
from enterprise_gateway.services.kernels.access.shares import Share
from enterprise_gateway.services.kernels.agents.agent import Agent, NotInPlaceError
from enterprise_gateway.services.kernels.agents.state import Annotations, OpenRequest, format_time
from enterprise_gateway.services.kernels.ownership import Ownership
from enterprise_gateway.services.kernels.pausing.pauses import IdlePauses
from enterprise_gateway.services.kernels.planning.launches import StartRequest, start_as
from enterprise_gateway.services.kernels.pools.pools import Pools
from enterprise_gateway.services.kernels.registry.culling import CullingUpdates
from enterprise_gateway.services.kernels.registry.models import (
    KernelModel,
    detailed_model,
    kernel_model,
    starting_model,
    with_access,
)
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernels.starts.pool_refill import PoolRefill
from enterprise_gateway.services.kernels.starts.starter import DISCARD_SECONDS, Starter
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.processproxies.registry import ProxyRegistry
from enterprise_gateway.services.request_scope import current_client, set_kernel
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.services.users import SHARED, Account, User
from enterprise_gateway.settings import LiveSettings

FIRST_STATE_SECONDS = 2.0
"""How long a list waits for the states of kernels that have just been found."""
GRACE_SECONDS = 5.0
"""What an agent may need beyond the times in its settings, to end or restart a kernel."""
CLOSE_SECONDS = 5.0
MAX_CLAIM_ATTEMPTS = 5
"""With their pauses they take about as long as an agent waits for a claim at least."""
MAX_ANNOTATION_ATTEMPTS = 20

FindAccount = Callable[[str], Account]
"""Returns what is known of a user by their name."""

_log = logging.getLogger(__name__)


class _Operation(Enum):
    """Work on one kernel that is under way at most once, however many requests wait for it."""

    SHUTDOWN = auto()
    RESTART = auto()
    CLAIM = auto()


class DeadKernel(NamedTuple):
    """A kernel whose agent is gone as well."""

    reason: str
    requests: tuple[OpenRequest, ...]
    """Those that it left without a reply, as far as they are known."""
    kernel_info: Mapping[str, object]
    """The content of its last kernel_info reply, {} if that is not known."""
    is_forgotten: asyncio.Event
    """Set once it is removed, or launched again."""


class AnnotatedKernel(NamedTuple):
    """A kernel that a user may see, with the gateways' own document in its agent."""

    model: KernelModel
    annotations: Annotations
    owner: str
    """Its user as in the name of its workload."""
    access: KernelAccess
    """What the user may do with it."""


class Kernels:
    """All kernels of the cluster, whichever replica started them.

    Methods that take a kernel's id do not ask whose it is: `ownership` was asked before.

    Attributes:
        ownership: knows the rights of users.
    """

    def __init__(
        self,
        live: LiveSettings,
        proxies: ProxyRegistry,
        kernelspecs: Kernelspecs,
        events: EventBus,
        find_account: FindAccount,
    ) -> None:
        self._live = live
        self._find_account = find_account
        self._proxies = proxies
        self._tasks = BackgroundTasks()
        self._registry = Registry(live, proxies, events)
        self.ownership = Ownership(live, self._registry)
        pools = Pools(live, self._registry, self._tasks)
        self._starter = Starter(live, proxies, kernelspecs, self._registry, pools, self._tasks)
        self._refill = PoolRefill(live, proxies, kernelspecs, self._registry, pools, self._starter)
        self._culling = CullingUpdates(live, kernelspecs, self._registry, self._tasks)
        self._pauses = IdlePauses(live, kernelspecs, self._registry)
        self._touched = format_time(time.time())

    async def start(self) -> None:
        """Begin to follow the workloads. An engine that does not answer is tried again."""
        for proxy in self._proxies.all():
            self._registry.follow(proxy)
        self._culling.start()
        self._pauses.start()
        self._refill.start()

    async def refuse_launches(self) -> None:
        """Refuse queued and later launches: this replica is stopping."""
        self._starter.close()
        await self._refill.close()

    async def close(self) -> None:
        """Finish the work under way, then stop following. Kernels go on."""
        await self._pauses.close()
        await self._refill.close()
        await self._tasks.finish(CLOSE_SECONDS)
        await self.ownership.close()
        await self._registry.close()

    @property
    def metrics(self) -> CollectorRegistry:
        """Counters of starts, deaths and automatic restarts."""
        return self._registry.metrics.registry

    @property
    def last_activity(self) -> str:
        """When a kernel was last used, or one was started or ended here; as in a kernel's model.

        It never goes back. Each replica has its own.
        """
        return max(self._touched, self._registry.last_activity)

    def is_required(self, proxy: BaseProcessProxyABC) -> bool:
        """Say whether the silence of a process proxy's engine is a fault."""
        return self._registry.lookup.is_required(proxy)

    async def start_kernel(self, start: StartRequest, user: User = SHARED) -> KernelModel:
        """Start a kernel, and return its model when it is ready; see `Starter.start`.

        No client has claimed it until `answering` has answered one, or `claim` is called.

        Args:
            start: what the client asks for.
            user: who asks, and gets the kernel unless they act for another one.
        """
        try:
            start = start_as(user, start)
            account = self._account_for(user, (start.env or {}).get("KERNEL_USERNAME"))
            return detailed_model(await self._starter.start(start, account))
        finally:
            self._touched = format_time(time.time())

    def _account_for(self, user: User, username: object) -> Account:
        if not isinstance(username, str):
            return Account()
        return user.account_for(username, self._find_account(username))

    @contextlib.asynccontextmanager
    async def answering(self, kernel_id: str) -> AsyncIterator[None]:
        """Claim a kernel for the client whose answer is written in this context.

        If the answer cannot be written, a kernel that no client knows is ended.
        """
        record = self._registry.get(kernel_id)
        try:
            yield
        except BaseException:
            if record is not None and not record.is_claimed:
                await self._tasks.run(self._registry.end(record, DISCARD_SECONDS))
            raise
        if record is not None:
            self._claim(record)

    def claim(self, kernel_id: str) -> None:
        """Claim a kernel for a client, unless another replica is still launching it."""
        record = self._registry.get(kernel_id)
        if record is None or record.is_dead or record.is_starting or record.is_pooled:
            return
        self._claim(record)

    async def models(self, user: User, *, listed: bool = True) -> list[KernelModel]:
        """Return the models of the kernels that a user may see, the oldest first.

        Args:
            user: who asks.
            listed: leave out the kernels that no client knows yet.

        Raises:
            UnavailableError: a required engine has not answered yet.
        """
        return [each.model for each in await self.annotated(user, listed=listed)]

    async def get(self, kernel_id: str) -> KernelModel:
        """Return the model of a kernel.

        Raises:
            NotFoundError: there is no such kernel.
            UnavailableError: its engine or its agent does not answer.
        """
        launching = self._registry.launches.get(kernel_id)
        if launching is not None:
            return starting_model(launching, self._starter.ahead(kernel_id))
        record = await self._current_record(kernel_id)
        self.claim(kernel_id)
        return detailed_model(record)

    async def shutdown(self, kernel_id: str, *, is_operator: bool = False) -> None:
        """End a kernel, gracefully if its agent answers. Goes on even if cancelled.

        Args:
            kernel_id: the kernel.
            is_operator: end one that waits in a pool, too, which no client knows.

        Raises:
            NotFoundError: there is no such kernel.
            ConflictError: it is being started.
            UnavailableError: neither its agent nor its engine answers; it may still be there.
        """
        self._check_not_launching(kernel_id)
        look_up = self._registry.find if is_operator else self._look_up
        record = await look_up(kernel_id)
        self._touched = format_time(time.time())
        record.note_request(current_client())
        key = (_Operation.SHUTDOWN, record)
        await self._tasks.wait(self._tasks.begin_once(key, lambda: self._end(record)))

    async def interrupt(self, kernel_id: str) -> None:
        """Interrupt a kernel.

        Raises:
            NotFoundError: there is no such kernel.
            ConflictError: it is dead.
            UnavailableError: its agent does not answer.
        """
        agent = await self._live_agent(await self._current_record(kernel_id))
        await agent.interrupt()

    async def restart(self, kernel_id: str) -> KernelModel:
        """Restart a kernel, and return its model when it is ready. Goes on even if cancelled.

        Raises:
            NotFoundError: there is no such kernel.
            ConflictError: it is being ended, or it is dead and cannot be launched again.
            LaunchError: it did not come up again.
            UnavailableError: its agent does not answer.
        """
        self._check_not_launching(kernel_id)
        record = await self._current_record(kernel_id)
        if self._is_shutting_down(record):
            raise _ending_error(record)
        key = (_Operation.RESTART, record)
        by = current_client()
        await self._tasks.wait(self._tasks.begin_once(key, lambda: self._restart(record, by)))
        return await self.get(kernel_id)

    async def agent(self, kernel_id: str) -> Agent:
        """Return the agent of a kernel.

        Raises:
            NotFoundError: there is no such kernel, or it is dead.
            UnavailableError: its engine does not answer, or the kernel is starting.
        """
        record = await self._find(kernel_id)
        if record.is_dead:
            raise NotFoundError(f"Kernel {kernel_id} is dead: {record.death}")
        return await self._live_agent(record)

    async def live_agent(self, kernel_id: str) -> Agent:
        """Return the agent of a kernel that is to do something.

        Raises:
            NotFoundError: there is no such kernel.
            ConflictError: it is dead.
            UnavailableError: its engine does not answer, or the kernel is starting.
        """
        return await self._live_agent(await self._find(kernel_id))

    async def find_dead(self, kernel_id: str, seconds: float = 0.0) -> DeadKernel | None:
        """Return how a kernel died, None if its agent can tell more.

        Args:
            kernel_id: the kernel.
            seconds: how long to wait for news of its death if its agent does not answer.

        Raises:
            NotFoundError: there is no such kernel.
            UnavailableError: its engine does not answer, or the kernel is starting.
        """
        record = await self._find(kernel_id)
        if not record.is_dead and seconds and not await self._answers(record):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await record.is_over.wait()
        if record.death is None:
            return None
        state = record.state
        requests = state.requests if state is not None else ()
        kernel_info = state.kernel_info if state is not None else {}
        return DeadKernel(record.death, requests, kernel_info, record.is_forgotten)

    async def refresh(self, kernel_id: str | None = None) -> None:
        """Catch up with the changes of other replicas to one kernel, or to all.

        Args:
            kernel_id: the kernel; None: all kernels, also those that are not known yet.

        Raises:
            UnavailableError: a required engine does not answer.
        """
        if kernel_id is None:
            await self._registry.refresh_all()
        elif (record := self._registry.get(kernel_id)) is not None:
            await self._registry.refresh_states([record])

    async def annotated(
        self, user: User, *, listed: bool, fresh: bool = False
    ) -> list[AnnotatedKernel]:
        """Return the kernels that a user may see, the oldest first, with their annotations.

        Args:
            user: who asks.
            listed: leave out the kernels that no client knows yet.
            fresh: ask the agents of recent kernels, so that annotations which another replica has
                written before this call are there. Those of other kernels follow in a moment.

        Raises:
            UnavailableError: a required engine has not answered yet.
        """
        if fresh:
            await self._registry.refresh_recent()
        found = []
        for record in await self._known_records():
            access = self.ownership.access_to(user, record)
            if access.right is Right.NONE or (listed and not record.is_listed):
                continue
            model = with_access(kernel_model(record), access)
            annotations = record.state.annotations if record.state else Annotations()
            found.append(AnnotatedKernel(model, annotations, record.workload.username, access))
        return found

    async def shares(self, kernel_id: str) -> list[Share]:
        """Return with whom a kernel is shared.

        Raises:
            NotFoundError, UnavailableError: as `get`.
        """
        record = await self._current_record(kernel_id)
        return [grant.share for grant in self.ownership.grants_of(record)]

    async def share(self, kernel_id: str, shares: Sequence[Share]) -> list[Share]:
        """Share a kernel with these users and groups, and with no others.

        Its agent closes what others have opened by a share that goes.

        Raises:
            NotFoundError, UnavailableError, ConflictError: as `annotate`.
        """
        store = self.ownership.store(await self._current_record(kernel_id))
        await self.annotate(kernel_id, functools.partial(store.with_shares, shares))
        return await self.shares(kernel_id)

    async def annotate(
        self, kernel_id: str, change: Callable[[msgspec.Raw], object]
    ) -> KernelModel:
        """Change a kernel's annotations by compare-and-set.

        Args:
            kernel_id: the kernel.
            change: makes the new document from the present one. It is called again whenever another
                replica has written in between.

        Raises:
            NotFoundError, UnavailableError: as `get`.
            ConflictError: the kernel is dead.
        """
        record = await self._current_record(kernel_id)
        agent = await self._live_agent(record)
        for _ in range(MAX_ANNOTATION_ATTEMPTS):
            state = record.state or await agent.state()
            document = change(state.annotations.document)
            written = await agent.write_annotations(document, state.annotations.revision)
            record.apply_annotations(written.annotations)
            if written.is_done:
                return kernel_model(record)
        raise UnavailableError(
            f"The sessions and shares of kernel {kernel_id} could not be written: other requests "
            "changed them at the same time. Try again."
        )

    async def _known_records(self) -> list[Record]:
        await self._registry.ensure_listed()
        deadline = asyncio.get_running_loop().time() + FIRST_STATE_SECONDS
        for record in self._registry:
            if record.agent is not None and not (record.is_known.is_set() or record.is_pooled):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(
                        min(deadline, record.found + FIRST_STATE_SECONDS)
                    ):
                        await record.is_known.wait()
        present = [record for record in self._registry if not record.has_ended]
        return sorted(present, key=lambda record: record.workload.created)

    async def _current_record(self, kernel_id: str) -> Record:
        """Return a record with the newest state that can be had."""
        record = await self._find(kernel_id)
        await self._registry.refresh(record)
        if self._registry.get(kernel_id) is not record or record.has_ended:
            raise NotFoundError(f"Kernel does not exist: {kernel_id}")
        return record

    async def _answers(self, record: Record) -> bool:
        """Say whether the agent of a kernel answers, before there is news of the kernel's end."""
        if record.agent is None:
            return False
        asking = asyncio.create_task(record.agent.state())
        ending = asyncio.create_task(record.is_over.wait())
        try:
            await asyncio.wait({asking, ending}, return_when=asyncio.FIRST_COMPLETED)
            return asking.done() and asking.exception() is None
        finally:
            asking.cancel()
            ending.cancel()

    async def _find(self, kernel_id: str) -> Record:
        if kernel_id in self._registry.launches:
            raise _starting_error(kernel_id)
        return await self._look_up(kernel_id)

    async def _look_up(self, kernel_id: str) -> Record:
        record = await self._registry.find(kernel_id)
        if record.is_pooled:
            raise NotFoundError(f"Kernel does not exist: {kernel_id}")
        set_kernel(kernel_id, record.workload.username)
        return record

    async def _live_agent(self, record: Record) -> Agent:
        """Return the agent of a kernel that lives, and goes on if it was paused."""
        if not record.is_dead:
            await self._registry.wake(record)
        if record.is_dead:
            raise ConflictError(f"Kernel {record.kernel_id} is dead: {record.death}")
        if record.agent is None:
            raise _starting_error(record.kernel_id)
        return record.agent

    def _check_not_launching(self, kernel_id: str) -> None:
        if kernel_id in self._registry.launches:
            raise ConflictError(f"Kernel is being started: {kernel_id}")

    async def _end(self, record: Record) -> None:
        wait_time = self._live.current.kernels.shutdown_wait_time
        await self._registry.end(record, 1.5 * wait_time + GRACE_SECONDS)
        _log.info("Kernel %s was shut down", record.kernel_id)

    async def _restart(self, record: Record, by: str) -> None:
        if record.is_dead:
            await self._starter.start_again(record)
        else:
            await self._restart_in_place(record)
        known = self._registry.get(record.kernel_id)
        if known is not None:
            self._claim(known)
            self._registry.events.restarted(known, by, start=known.start)
        start = known.start if known is not None else None
        duration = f" in {start}" if start is not None else ""
        _log.info("Kernel %s was restarted%s", record.kernel_id, duration)

    async def _restart_in_place(self, record: Record) -> None:
        """Have a kernel's agent restart it, or launch it again if the agent cannot."""
        settings = self._live.current.kernels
        seconds = settings.kernel_info_timeout + 1.5 * settings.shutdown_wait_time
        try:
            agent = await self._live_agent(record)
            record.apply_state(await agent.restart(seconds + GRACE_SECONDS))
        except NotInPlaceError:
            await self._starter.start_again(record)
        except (LaunchError, UnavailableError) as exc:
            if self._is_wanted(record):
                raise
            raise _ending_error(record) from exc

    def _is_shutting_down(self, record: Record) -> bool:
        """Say whether this replica is ending a kernel."""
        return self._tasks.is_running((_Operation.SHUTDOWN, record))

    def _is_wanted(self, record: Record) -> bool:
        """Say whether a kernel has not been ended, and is not being ended."""
        is_ending = self._is_shutting_down(record) or record.is_ending
        return self._registry.get(record.kernel_id) is record and not is_ending

    def _claim(self, record: Record) -> None:
        """Claim a kernel for a client, and begin to tell its agent.

        An agent ends its kernel if no client claims it: the client, or the replica that started the
        kernel, is gone.
        """
        record.claim()
        is_told = record.is_known.is_set() and record.state is not None and record.state.claimed
        if not is_told:
            self._tasks.begin_once((_Operation.CLAIM, record), lambda: self._send_claim(record))

    async def _send_claim(self, record: Record) -> None:
        """Tell the agent of a kernel that a client has claimed it."""
        pause = self._live.current.delays.claim_retry_seconds
        for _ in range(MAX_CLAIM_ATTEMPTS):
            agent = record.agent
            if agent is None:
                return
            try:
                await self._registry.wake(record)
                await agent.claim(record.launched)
            except GatewayError as exc:
                _log.debug("Kernel %s: it is not claimed yet: %s", record.kernel_id, exc)
            else:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(record.is_over.wait(), pause)
            pause *= 2
        _log.warning("Kernel %s: its agent could not be told of its client", record.kernel_id)


def _ending_error(record: Record) -> ConflictError:
    return ConflictError(f"Kernel {record.kernel_id} is being shut down: it cannot be restarted.")


def _starting_error(kernel_id: str) -> UnavailableError:
    return UnavailableError(f"Kernel {kernel_id} is starting", retry_after=1.0)
