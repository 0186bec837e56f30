"""Starting kernels: plan, limits, launch."""

import asyncio
import contextlib
import logging

from enterprise_gateway.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.kernels.completions import Completions
from enterprise_gateway.services.kernels.launches import StartRequest, plan_launch
from enterprise_gateway.services.kernels.limits import (
    has_limits,
    refusal_of_start,
    refusal_of_started,
)
from enterprise_gateway.services.kernels.metrics import KernelMetrics
from enterprise_gateway.services.kernels.records import Record
from enterprise_gateway.services.kernels.registry import Registry
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC, LaunchRequest
from enterprise_gateway.services.proxies import Proxies
from enterprise_gateway.settings import LiveSettings

FIRST_STATE_SECONDS = 2.0
"""How long a start that succeeded waits for the agent's first state document."""
DISCARD_SECONDS = 15.0
"""How long an agent has to end a kernel that nobody gets."""
LOOK_SECONDS = 0.2
"""Between two looks at a kernel that another gateway process launches again."""

_MOVE_ATTEMPTS = 5

_log = logging.getLogger(__name__)


class Starter:
    """Starts kernels, and starts dead ones again."""

    def __init__(
        self,
        live: LiveSettings,
        proxies: Proxies,
        kernelspecs: Kernelspecs,
        registry: Registry,
        completions: Completions,
    ) -> None:
        self._live = live
        self._proxies = proxies
        self._kernelspecs = kernelspecs
        self._registry = registry
        self._completions = completions
        self.metrics = KernelMetrics()

    async def start(self, start: StartRequest) -> Record:
        """Start a kernel, and return when it is ready. Cancelling this leaves nothing behind.

        Raises:
            InvalidRequestError, ForbiddenError, ConflictError: the request is refused.
            NotFoundError: there is no such kernelspec.
            LaunchError: the kernel did not come up.
        """
        settings = self._live.current
        name = start.name or await self._kernelspecs.default_name()
        spec = await self._kernelspecs.get(name)
        launch = plan_launch(start, spec, settings.kernels, settings.cluster_secret)
        if start.kernel_id or "KERNEL_ID" in start.env:
            await self._check_id_is_free(launch.kernel_id)
        return await self._launch(self._proxies.get(spec.proxy_class), launch)

    async def start_again(self, record: Record) -> None:
        """Launch a new workload for a kernel that died, under the same id.

        Or for one whose agent cannot restart it: what is there is removed first. The annotations
        move to the new one. If another gateway process has done so already, or is about to, that is
        waited for.

        Raises:
            ConflictError: it is not known how it was launched.
            LaunchError: the kernel did not come up.
            UnavailableError: it does not come up elsewhere.
        """
        if await self._registry.find_successor(record) is None:
            if record.launch is not None:
                proxy, launch = record.proxy, record.launch
            else:
                proxy, launch = await self._plan_again(record)
            await record.proxy.sweep(record.workload)
            with contextlib.suppress(ConflictError):  # another gateway process was faster
                new = await self._launch(proxy, launch)
                await _move_annotations(record, new)
                return
        await self._wait_for_successor(record)

    async def _wait_for_successor(self, record: Record) -> None:
        """Wait until a kernel that another gateway process launches again is ready.

        Raises:
            UnavailableError: it is not, or not in time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._live.current.kernels.launch_timeout):
                while (new := await self._registry.find_successor(record)) is not None:
                    if new.is_known.is_set() and not new.is_starting:
                        return
                    # Only the other gateway process could tell when it has come to an end.
                    await asyncio.sleep(LOOK_SECONDS)
        raise UnavailableError(
            f"Another gateway began to restart kernel {record.kernel_id}, and did not come to an "
            "end. Try again.",
            retry_after=1.0,
        )

    async def _plan_again(self, record: Record) -> tuple[BaseProcessProxyABC, LaunchRequest]:
        """Plan the launch of a kernel as its client may have asked another gateway process for it.

        Raises:
            ConflictError: too little is known of it.
        """
        settings = self._live.current
        try:
            spec = await self._kernelspecs.get(record.kernel_name)
        except NotFoundError:
            spec = None
        if spec is None or not record.client_env:
            state = f"is dead ({record.death}). It " if record.death is not None else ""
            raise ConflictError(
                f"Kernel {record.kernel_id} {state}cannot be restarted, since it is not known any "
                "more how it was launched: start a new one."
            )
        start = StartRequest(spec.name, record.kernel_id, record.client_env)
        launch = plan_launch(start, spec, settings.kernels, settings.cluster_secret)
        return self._proxies.get(spec.proxy_class), launch

    async def _launch(self, proxy: BaseProcessProxyABC, launch: LaunchRequest) -> Record:
        self._registry.follow(proxy)
        self._check_limits_before(launch)
        with self.metrics.measure_start(launch.kernel_name):
            with self._registry.launching(proxy, launch):
                workload = await proxy.launch(launch)
                record = self._registry.add(proxy, workload, launch)
            try:
                await self._check_limits_after(record, launch)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(record.is_known.wait(), FIRST_STATE_SECONDS)
            except BaseException:
                await self._completions.run(self._registry.end(record, DISCARD_SECONDS))
                raise
        _log.info("Kernel %s (%s) started", launch.kernel_id, launch.kernel_name)
        return record

    async def _check_id_is_free(self, kernel_id: str) -> None:
        with contextlib.suppress(NotFoundError):
            await self._registry.find(kernel_id)
            raise ConflictError(f"Kernel already exists: {kernel_id}")

    def _check_limits_before(self, launch: LaunchRequest) -> None:
        """Refuse early what is plainly too much, so that nothing is launched in vain."""
        launches = self._registry.launches()
        if any(other.launch.kernel_id == launch.kernel_id for other in launches):
            raise ConflictError(f"Kernel is being started: {launch.kernel_id}")
        usernames = [
            record.username
            for record in sorted(self._registry, key=lambda record: record.workload.created)
            if record.death is None and record.kernel_id != launch.kernel_id
        ]
        usernames.extend(other.launch.username for other in launches)
        settings = self._live.current.kernels
        refusal = refusal_of_start(settings, usernames, launch.username)
        if refusal is not None:
            raise ForbiddenError(refusal)

    async def _check_limits_after(self, record: Record, launch: LaunchRequest) -> None:
        """Give way if starts elsewhere came first. This is the check that is exact."""
        settings = self._live.current.kernels
        if not has_limits(settings):
            return
        workloads = await self._registry.engines.list_around(record.workload.created)
        refusal = refusal_of_started(settings, workloads, record.workload, launch.username)
        if refusal is not None:
            raise ForbiddenError(refusal)


async def _move_annotations(dead: Record, new: Record) -> None:
    """Give a kernel that was launched again the annotations that it had."""
    if dead.state is not None and new.state is not None and new.agent is not None:
        document = dead.state.annotations.document
        revision = new.state.annotations.revision
        for _ in range(_MOVE_ATTEMPTS):  # another gateway process may write, too
            written = await new.agent.write_annotations(document, revision)
            revision = written.revision
            if written.document == document:
                break
        new.learn_annotations(written)
