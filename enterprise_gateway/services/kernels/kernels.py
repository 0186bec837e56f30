"""Kernels: started, found, interrupted, restarted, ended."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from enterprise_gateway.errors import ConflictError, GatewayError, NotFoundError, UnavailableError
from enterprise_gateway.services.kernels.agent import Agent, NotInPlaceError
from enterprise_gateway.services.kernels.completions import Completions
from enterprise_gateway.services.kernels.culling import effective_culling
from enterprise_gateway.services.kernels.launches import StartRequest
from enterprise_gateway.services.kernels.records import (
    KernelModel,
    Record,
    kernel_model,
    starting_model,
)
from enterprise_gateway.services.kernels.registry import Launching, Registry
from enterprise_gateway.services.kernels.starter import Starter
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.proxies import Proxies
from enterprise_gateway.settings import LiveSettings, Settings

FIRST_STATE_SECONDS = 2.0
"""How long a list waits for the state of kernels that have just been found."""
GRACE_SECONDS = 5.0
"""What an agent may need beyond the times that it was told for ending and restarting."""
CLOSE_SECONDS = 5.0
MAX_ANNOTATION_ATTEMPTS = 20

_log = logging.getLogger(__name__)


class Kernels:
    """All kernels, whoever started them."""

    def __init__(self, live: LiveSettings, proxies: Proxies, kernelspecs: Kernelspecs) -> None:
        self._live = live
        self._proxies = proxies
        self._kernelspecs = kernelspecs
        self._completions = Completions()
        self._registry = Registry(live, proxies)
        self._starter = Starter(live, proxies, kernelspecs, self._registry, self._completions)
        self._culling = live.current.kernels.culling

    async def start(self) -> None:
        """Begin to follow the workloads; an engine that does not answer is tried again."""
        for proxy in self._proxies.all():
            self._registry.follow(proxy)
        self._live.subscribe(self._on_settings)

    async def close(self) -> None:
        """Finish what must be finished, then stop following. Kernels go on."""
        await self._completions.close(CLOSE_SECONDS)
        await self._registry.close()

    @property
    def metrics(self) -> CollectorRegistry:
        """What is counted about starts."""
        return self._starter.metrics.registry

    def counts(self, proxy: BaseProcessProxyABC) -> bool:
        """Say whether a process proxy that does not answer is a fault."""
        return self._registry.engines.counts(proxy)

    async def start_kernel(self, start: StartRequest) -> KernelModel:
        """Start a kernel, and return its model when it is ready; see `Starter.start`."""
        return kernel_model(await self._starter.start(start))

    async def models(self) -> list[KernelModel]:
        """Return the models of all kernels, the oldest first.

        Raises:
            UnavailableError: an engine that counts has not answered yet.
        """
        return [kernel_model(record) for record in await self._known_records()]

    async def get(self, kernel_id: str) -> KernelModel:
        """Return the model of a kernel.

        Raises:
            NotFoundError: there is no such kernel.
            UnavailableError: its engine or its agent does not answer.
        """
        launching = self._launching(kernel_id)
        if launching is not None:
            return starting_model(launching.launch, launching.since)
        return kernel_model(await self._current_record(kernel_id))

    async def shutdown(self, kernel_id: str) -> None:
        """End a kernel, gracefully if its agent answers. Comes to its end even if cancelled.

        Raises:
            NotFoundError: there is no such kernel.
            ConflictError: it is being started.
            UnavailableError: neither its agent nor its engine answers; it may still be there.
        """
        self._check_not_launching(kernel_id)
        record = await self._registry.find(kernel_id)
        if record.ending is None:
            record.ending = self._completions.begin(self._end(record))
        await self._completions.wait(record.ending)

    async def interrupt(self, kernel_id: str) -> None:
        """Interrupt a kernel.

        Raises:
            NotFoundError: there is no such kernel.
            ConflictError: it is dead.
            UnavailableError: its agent does not answer.
        """
        agent = self._live_agent(await self._current_record(kernel_id))
        await agent.interrupt()

    async def restart(self, kernel_id: str) -> KernelModel:
        """Restart a kernel, and return its model when it is ready. Goes on even if cancelled.

        Raises:
            NotFoundError: there is no such kernel.
            ConflictError: it is dead, and how to launch it is not known.
            LaunchError: it did not come up again.
            UnavailableError: its agent does not answer.
        """
        self._check_not_launching(kernel_id)
        record = await self._current_record(kernel_id)
        if record.restarting is None:
            record.restarting = self._completions.begin(self._restart(record))
        await self._completions.wait(record.restarting)
        return await self.get(kernel_id)

    async def agent(self, kernel_id: str) -> Agent:
        """Return the agent of a kernel.

        Raises:
            NotFoundError: there is no such kernel, or it is dead.
            UnavailableError: its engine does not answer, or the kernel is only starting.
        """
        record = await self._find(kernel_id)
        if record.death is not None:
            raise NotFoundError(f"Kernel {kernel_id} is dead: {record.death}")
        return self._live_agent(record)

    async def ask(self, kernel_id: str | None = None) -> None:
        """Learn what other gateway processes have just done to a kernel, or to any that there are.

        Raises:
            UnavailableError: an engine that counts does not answer.
        """
        if kernel_id is None:
            await self._registry.look_again()
        elif (record := self._registry.known(kernel_id)) is not None:
            await self._registry.ask([record])

    async def annotated(
        self, *, fresh: bool = False
    ) -> list[tuple[KernelModel, Mapping[str, Any]]]:
        """Return the model and the annotations of every kernel.

        Args:
            fresh: ask the agents of young kernels, so that what another gateway process has written
                before this call is there. Of the others it is within a moment.
        """
        if fresh:
            await self._registry.ask_young()
        return [
            (kernel_model(record), record.state.annotations.document if record.state else {})
            for record in await self._known_records()
        ]

    async def annotate(
        self, kernel_id: str, change: Callable[[Mapping[str, Any]], dict[str, Any]]
    ) -> KernelModel:
        """Change a kernel's annotations by compare-and-set.

        Args:
            kernel_id: the kernel.
            change: makes the new document of the present one; called again whenever somebody else
                was faster.

        Raises:
            NotFoundError, UnavailableError: as `get`.
            ConflictError: the kernel is dead.
        """
        record = await self._current_record(kernel_id)
        agent = self._live_agent(record)
        for _ in range(MAX_ANNOTATION_ATTEMPTS):
            state = record.state or await agent.state()
            document = change(state.annotations.document)
            answer = await agent.write_annotations(document, state.annotations.revision)
            record.learn_annotations(answer)
            if answer.document == document:
                return kernel_model(record)
        raise UnavailableError(f"The annotations of kernel {kernel_id} change all the time")

    async def _known_records(self) -> list[Record]:
        await self._registry.ensure_listed()
        deadline = asyncio.get_running_loop().time() + FIRST_STATE_SECONDS
        for record in self._registry:
            if not record.is_known.is_set() and record.agent is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(
                        min(deadline, record.found + FIRST_STATE_SECONDS)
                    ):
                        await record.is_known.wait()
        public = [
            record for record in self._registry if not record.is_pending and not record.has_ended
        ]
        return sorted(public, key=lambda record: record.workload.created)

    async def _current_record(self, kernel_id: str) -> Record:
        """Return a record whose state is as new as it can be had."""
        record = await self._find(kernel_id)
        await self._registry.refresh(record)
        if self._registry.known(kernel_id) is not record or record.has_ended:
            raise NotFoundError(f"Kernel does not exist: {kernel_id}")
        return record

    async def _find(self, kernel_id: str) -> Record:
        if self._launching(kernel_id) is not None:
            raise _is_starting(kernel_id)
        return await self._registry.find(kernel_id)

    def _live_agent(self, record: Record) -> Agent:
        if record.death is not None:
            raise ConflictError(f"Kernel {record.kernel_id} is dead: {record.death}")
        if record.agent is None:
            raise _is_starting(record.kernel_id)
        return record.agent

    def _launching(self, kernel_id: str) -> Launching | None:
        launches = self._registry.launches()
        return next((one for one in launches if one.launch.kernel_id == kernel_id), None)

    def _check_not_launching(self, kernel_id: str) -> None:
        if self._launching(kernel_id) is not None:
            raise ConflictError(f"Kernel is being started: {kernel_id}")

    async def _end(self, record: Record) -> None:
        try:
            wait_time = self._live.current.kernels.shutdown_wait_time
            await self._registry.end(record, 1.5 * wait_time + GRACE_SECONDS)
            _log.info("Kernel %s was shut down", record.kernel_id)
        finally:
            record.ending = None

    async def _restart(self, record: Record) -> None:
        try:
            if record.death is not None:
                await self._starter.start_again(record)
            else:
                settings = self._live.current.kernels
                seconds = settings.kernel_info_timeout + 1.5 * settings.shutdown_wait_time
                try:
                    record.learn(await self._live_agent(record).restart(seconds + GRACE_SECONDS))
                except NotInPlaceError:
                    await self._starter.start_again(record)
            _log.info("Kernel %s was restarted", record.kernel_id)
        finally:
            record.restarting = None

    def _on_settings(self, settings: Settings) -> None:
        if settings.kernels.culling != self._culling:
            self._culling = settings.kernels.culling
            self._completions.begin(self._push_culling())

    async def _push_culling(self) -> None:
        """Tell all agents the new culling settings; kernelspecs keep their own."""
        specs = await self._kernelspecs.all()
        for record in self._registry:
            if record.agent is None:
                continue
            spec = specs.get(record.kernel_name)
            metadata = spec.spec.metadata if spec is not None else {}
            try:
                await record.agent.set_culling(effective_culling(self._culling, metadata))
            except GatewayError as exc:
                _log.warning("Kernel %s keeps its culling settings: %s", record.kernel_id, exc)


def _is_starting(kernel_id: str) -> UnavailableError:
    return UnavailableError(f"Kernel {kernel_id} is starting", retry_after=1.0)
