"""Starts kernels: plan, limits, launch."""

import asyncio
import contextlib
import logging
from dataclasses import replace

from enterprise_gateway.errors import (
    ConflictError,
    ForbiddenError,
    GatewayError,
    LaunchError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.kernels.planning.ids import check_ids
from enterprise_gateway.services.kernels.planning.images import IMAGE, check_image
from enterprise_gateway.services.kernels.planning.launches import (
    StartRequest,
    distinguish_launch,
    plan_launch,
    without_kernelspecs_own,
)
from enterprise_gateway.services.kernels.pools.pools import Pools
from enterprise_gateway.services.kernels.registry.metrics import Source
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernels.starts.attempts import (
    Attempt,
    explain_wait,
    report_outcome,
)
from enterprise_gateway.services.kernels.starts.launch_queue import LaunchQueue
from enterprise_gateway.services.kernels.starts.limits import (
    has_limits,
    refusal_of_start,
    refusal_of_started,
    refusal_of_taken,
)
from enterprise_gateway.services.kernels.starts.quotas import Counted, counted
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC, LaunchRequest
from enterprise_gateway.services.processproxies.registry import (
    LOCAL_PROCESS_PROXY,
    ProxyRegistry,
)
from enterprise_gateway.services.processproxies.steps import Step
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.services.request_scope import note_detail, set_kernel
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.services.users import Account
from enterprise_gateway.settings import LiveSettings

FIRST_STATE_SECONDS = 2.0
"""How long a start that succeeded waits for the agent's first state document."""
DISCARD_SECONDS = 15.0
"""How long an agent has to end a kernel that no client gets."""
POLL_SECONDS = 0.2
"""The pause between two checks of a kernel that another replica launches again."""

_MOVE_ATTEMPTS = 5

_log = logging.getLogger(__name__)


class Starter:
    """Starts kernels, and starts dead ones again."""

    def __init__(
        self,
        live: LiveSettings,
        proxies: ProxyRegistry,
        kernelspecs: Kernelspecs,
        registry: Registry,
        pools: Pools,
        tasks: BackgroundTasks,
    ) -> None:
        self._live = live
        self._proxies = proxies
        self._kernelspecs = kernelspecs
        self._registry = registry
        self._pools = pools
        self._tasks = tasks
        self._queue = LaunchQueue(
            lambda: live.current.kernels.max_concurrent_launches,
            lambda: live.current.kernels.max_queued_launches,
        )
        self._events = registry.events
        self.metrics = registry.metrics
        self.metrics.watch_launches(lambda: self._queue.running, lambda: self._queue.waiting)

    def close(self) -> None:
        """Refuse launches that have not begun. Those under way go on."""
        self._queue.close()

    async def start(self, start: StartRequest, account: Account) -> Record:
        """Start a kernel, and return when it is ready. Cancelling this leaves nothing behind.

        Args:
            start: the client's request.
            account: that of the kernel's user.

        Raises:
            InvalidRequestError, ForbiddenError, ConflictError: the request is refused.
            NotFoundError: there is no such kernelspec.
            LaunchError: the kernel did not come up.
        """
        attempt = Attempt()
        with report_outcome(attempt, self.metrics, self._events):
            settings = self._live.current
            name = start.name or await self._kernelspecs.default_name()
            spec = await self._kernelspecs.get(name)
            attempt.kernel_name = spec.name
            note_detail("kernel_name", spec.name)
            launch = plan_launch(start, spec, settings, account)
            attempt.kernel_id, attempt.username = launch.kernel_id, launch.username
            set_kernel(launch.kernel_id, escape_username(launch.username))
            self._events.requested(launch.kernel_id, spec.name, launch.username)
            asked = start.env or {}
            if spec.proxy_class != LOCAL_PROCESS_PROXY:
                check_ids(asked, account, settings.kernels)
                if IMAGE in asked:
                    specs = (await self._kernelspecs.all()).values()
                    check_image(launch.env[IMAGE], launch.username, specs, settings)
            if start.has_kernel_id:
                await self._check_id_is_free(launch.kernel_id)
            else:
                self._check_limits_before(launch)
                record = await self._take(spec, launch, attempt)
                if record is not None:
                    return record
            return await self._launch(self._proxies.get(spec.proxy_class), launch, attempt)

    def ahead(self, kernel_id: str) -> int | None:
        """Return how many launches come before that of a kernel, None if it does not wait."""
        return self._queue.ahead(kernel_id)

    @property
    def waiting(self) -> int:
        """How many launches of users wait for their turn."""
        return self._queue.waiting

    async def launch_for_pool(
        self, proxy: BaseProcessProxyABC, launch: LaunchRequest, attempt: Attempt
    ) -> Record:
        """Launch a kernel that no user has asked for, when no user's launch waits.

        Raises:
            LaunchError: the kernel did not come up.
        """
        return await self._launch(proxy, launch, attempt)

    async def start_again(self, record: Record) -> None:
        """Launch a new workload for a dead kernel, or for one whose agent cannot restart it.

        The kernel keeps its id and its annotations; its present workload is removed first. If
        another replica has launched it already, or is about to, this waits for that.

        Raises:
            ConflictError: it is not known how it was launched.
            LaunchError: the kernel did not come up.
            UnavailableError: another replica launches it, and it did not become ready.
        """
        if await self._registry.find_successor(record) is None:
            if record.launch is not None:
                proxy, launch = record.proxy, record.launch
            else:
                proxy, launch = await self._plan_again(record)
            attempt = Attempt(launch.kernel_id, launch.kernel_name, launch.username)
            with contextlib.suppress(ConflictError):  # another replica was faster
                with report_outcome(attempt, self.metrics, self._events):
                    new = await self._launch(proxy, launch, attempt, record)
                await _move_annotations(record, new)
                return
        await self._wait_for_successor(record)

    async def _wait_for_successor(self, record: Record) -> None:
        """Wait until a kernel that another replica launches again is ready.

        Raises:
            UnavailableError: it is not, or not in time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._live.current.kernels.launch_timeout):
                while (new := await self._registry.find_successor(record)) is not None:
                    if new.is_known.is_set() and not new.is_starting:
                        return
                    # Only the other replica knows when its launch has ended, and it does not tell.
                    await asyncio.sleep(POLL_SECONDS)
        raise UnavailableError(
            f"Another gateway began to restart kernel {record.kernel_id} and has not finished. Try "
            "again.",
            retry_after=1.0,
        )

    async def _plan_again(self, record: Record) -> tuple[BaseProcessProxyABC, LaunchRequest]:
        """Plan the launch of a kernel as its client may have asked another replica for it.

        Raises:
            ConflictError: how it was launched is not known.
        """
        settings = self._live.current
        try:
            spec = await self._kernelspecs.get(record.kernel_name)
        except NotFoundError:
            spec = None
        client_env = record.recovered.client_env if record.recovered is not None else {}
        if spec is None or not client_env:
            state = f"is dead ({record.death}). It " if record.is_dead else ""
            raise ConflictError(
                f"Kernel {record.kernel_id} {state}cannot be restarted, since it is not known any "
                "more how it was launched: start a new one."
            )
        sent = without_kernelspecs_own(client_env, record.kernel_id, spec, settings)
        start = StartRequest(spec.name, record.kernel_id, sent)
        launch = plan_launch(start, spec, settings, Account(record.workload.usage.groups))
        return self._proxies.get(spec.proxy_class), launch

    async def _take(
        self, spec: Kernelspec, launch: LaunchRequest, attempt: Attempt
    ) -> Record | None:
        """Take a kernel from the pool of its kernelspec, if there is one that fits."""
        pool = self._pools.current.get(spec.name)
        if pool is None:
            return None
        attempt.steps.begin(Step.POOL)
        record = await self._pools.take(pool, spec, launch)
        if record is None:
            return None
        try:
            is_too_many = await self._is_one_too_many(record, launch)
        except BaseException:
            await self._tasks.run(self._registry.end(record, DISCARD_SECONDS))
            raise
        if record.is_over.is_set():
            return None
        if is_too_many:  # the check of a launch is exact, and decides; it must not count this one
            await self._tasks.run(self._registry.end(record, DISCARD_SECONDS))
            return None
        record.complete_launch(attempt.steps.end())
        self._events.claimed(record, attempt.steps.times(), requested=launch.kernel_id)
        attempt.kernel_id, attempt.source = record.kernel_id, Source.POOL
        set_kernel(record.kernel_id, record.workload.username)
        return record

    async def _is_one_too_many(self, record: Record, launch: LaunchRequest) -> bool:
        """Say whether a kernel may exceed a limit that was just taken from a pool.

        Its age says nothing, so all others count. Of two that are taken at the same time for one
        place, both may seem too many.
        """
        settings = self._live.current.kernels
        if not has_limits(settings):
            return False
        found = [workload for _, workload in await self._registry.lookup.list_all()]
        others = [one for one in found if one.kernel_id != record.kernel_id]
        return refusal_of_taken(settings, others, record.workload, launch.username) is not None

    async def _launch(
        self,
        proxy: BaseProcessProxyABC,
        launch: LaunchRequest,
        attempt: Attempt,
        former: Record | None = None,
    ) -> Record:
        """Launch a kernel; `former` is the one that it replaces, unless the launch is refused."""
        self._registry.follow(proxy)
        if not launch.pool:
            self._check_limits_before(launch)
        settings = self._live.current
        launch = distinguish_launch(
            launch, settings.cluster_secret, is_encrypted=settings.docker.encrypt_agent_traffic
        )
        launch = replace(launch, steps=attempt.steps)
        with self._registry.launching(proxy, launch):
            await proxy.prepare(launch)
            if former is not None:
                await former.proxy.remove_workload(former.workload)
            attempt.steps.begin(Step.QUEUE)
            is_background = bool(launch.pool)
            async with self._queue.slot(
                launch.username, launch.kernel_id, is_background=is_background
            ):
                attempt.steps.begin(Step.PREPARE)
                with explain_wait(attempt):
                    workload = await proxy.launch(launch)
                record = self._registry.add(proxy, workload, launch)
        try:
            attempt.steps.begin(Step.CHECK)
            await self._check_limits_after(record, launch)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(record.is_known.wait(), FIRST_STATE_SECONDS)
            _check_alive(record)
        except BaseException:
            await self._tasks.run(self._discard(record, launch))
            raise
        record.complete_launch(attempt.steps.end())
        self._events.ready(record, attempt.steps.times())
        return record

    async def _discard(self, record: Record, launch: LaunchRequest) -> None:
        """End a kernel whose start has failed after it was launched."""
        if not launch.pool:
            await self._registry.end(record, DISCARD_SECONDS)
            return
        try:
            await self._pools.discard(record)
        except GatewayError as exc:
            _log.info("Kernel %s stays, though its launch failed: %s", record.kernel_id, exc)

    async def _check_id_is_free(self, kernel_id: str) -> None:
        with contextlib.suppress(NotFoundError):
            await self._registry.find(kernel_id)
            raise ConflictError(f"Kernel already exists: {kernel_id}")

    def _check_limits_before(self, launch: LaunchRequest) -> None:
        """Refuse a start that plainly exceeds a limit, so that nothing is launched in vain."""
        launches = self._registry.launches
        if launch.kernel_id in launches:
            raise ConflictError(f"Kernel is being started: {launch.kernel_id}")
        others = [
            counted(record.workload)
            for record in sorted(self._registry, key=lambda record: record.workload.created)
            if not record.is_dead and not record.is_pooled and record.kernel_id != launch.kernel_id
        ]
        others.extend(_counted(other.launch) for other in launches if not other.launch.pool)
        settings = self._live.current.kernels
        refusal = refusal_of_start(settings, others, _counted(launch), launch.username)
        if refusal is not None:
            raise ForbiddenError(refusal)

    async def _check_limits_after(self, record: Record, launch: LaunchRequest) -> None:
        """Refuse a started kernel that exceeds a limit. This check is exact across replicas."""
        settings = self._live.current.kernels
        if not has_limits(settings) or launch.pool:
            return
        workloads = await self._registry.lookup.list_around(record.workload.created)
        refusal = refusal_of_started(settings, workloads, record.workload, launch.username)
        if refusal is not None:
            raise ForbiddenError(refusal)


def _counted(launch: LaunchRequest) -> Counted:
    return Counted(escape_username(launch.username), launch.resources.usage)


def _check_alive(record: Record) -> None:
    """Raise `LaunchError` if a kernel has ended that has just been launched."""
    if record.is_over.is_set():
        raise LaunchError(
            f"Kernel {record.kernel_id} ({record.kernel_name}) ended as soon as it was ready. "
            "Start another one."
        )


async def _move_annotations(dead: Record, new: Record) -> None:
    """Give a kernel that was launched again its former annotations."""
    if dead.state is not None and new.state is not None and new.agent is not None:
        document = dead.state.annotations.document
        revision = new.state.annotations.revision
        for _ in range(_MOVE_ATTEMPTS):  # another replica may write, too
            written = await new.agent.write_annotations(document, revision)
            revision = written.annotations.revision
            if written.is_done:
                break
        new.apply_annotations(written.annotations)
