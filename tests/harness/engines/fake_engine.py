"""A process proxy without an engine: workloads are fake agents, which end as the test says."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from enterprise_gateway.errors import ConflictError, PreparingError, UnavailableError
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    BaseProcessProxyABC,
    ImagePull,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.workloads.names import (
    escape_username,
    workload_name,
)
from enterprise_gateway.settings import LiveSettings
from harness.agents.fake_agent import FakeAgent


class FakeEngine(BaseProcessProxyABC):
    """One process proxy for every class name; also the registry of process proxies.

    Attributes:
        agents: of the running workloads, by kernel id.
        requests: every launch request so far.
        is_down: whether each call fails as if the engine did not answer.
        failure: what the next launches fail with.
        gate: cleared, launches wait until it is set.
        pulls: cleared, launches wait until it is set before they take their turn.
        prepared: how often a launch was prepared.
        cancelled: how many launches were cancelled.
        is_forgetful: whether it does not know how workloads were launched.
        keeps_dead: whether the dead stay, so that every replica can say why they died.
        pauses: how often a kernel was paused.
        paused: the ids of the kernels that are paused.
        ended_in_order: the ids of removed kernels whose agents were asked to end them.
    """

    can_pause = True

    def __init__(self, settings: LiveSettings, folder: Path) -> None:
        super().__init__(settings)
        self.agents: dict[str, FakeAgent] = {}
        self.requests: list[LaunchRequest] = []
        self.is_down = False
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.pulls = asyncio.Event()
        self.pulls.set()
        self.prepared = 0
        self.cancelled = 0
        self.is_forgetful = False
        self.keeps_dead = False
        self.pauses = 0
        self.paused: set[str] = set()
        self.ended_in_order: list[str] = []
        self.observations: list[str] = []
        self.removals: list[str] = []
        self._folder = folder
        self._workloads: dict[str, Workload] = {}
        self._watchers: set[asyncio.Queue[Workload]] = set()

    # the registry

    def get(self, class_name: str) -> BaseProcessProxyABC:
        """Return itself."""
        del class_name
        return self

    def all(self) -> list[BaseProcessProxyABC]:
        """Return itself."""
        return [self]

    async def close(self) -> None:
        """Leave the kernels running, as a real one does."""

    # the test's side

    async def discard(self) -> None:
        """Stop all agents."""
        for agent in self.agents.values():
            await agent.stop()

    async def kill(self, kernel_id: str, exit_reason: str = "") -> None:
        """End a workload as the engine would see it; its agent says nothing."""
        await self.agents.pop(kernel_id).stop()
        self._publish(kernel_id, exit_reason)

    async def forget(self, kernel_id: str) -> None:
        """Remove a workload without an event."""
        del self._workloads[kernel_id]
        await self.agents.pop(kernel_id).stop()

    def age(self, kernel_id: str, seconds: float) -> None:
        """Have a workload that is older than it was."""
        workload = self._workloads[kernel_id]
        self.announce(replace(workload, created=workload.created - seconds))

    def freeze(self, kernel_id: str) -> None:
        """Pause a workload without an event."""
        self.agents[kernel_id].silence.clear()
        self.paused.add(kernel_id)

    def tell_paused(self, kernel_id: str, *, is_paused: bool) -> None:
        """Have gateways told that a workload is paused, or is not any more."""
        self.announce(replace(self._workloads[kernel_id], is_paused=is_paused))

    def announce(self, workload: Workload) -> None:
        """Have a workload, or a new state of one."""
        self._workloads[workload.kernel_id] = workload
        self.tell(workload)

    def tell(self, workload: Workload) -> None:
        """Have gateways told of a workload."""
        for queue in self._watchers:
            queue.put_nowait(workload)

    def _publish(self, kernel_id: str, exit_reason: str) -> None:
        dead = replace(
            self._workloads.pop(kernel_id),
            state=WorkloadState.DEAD,
            endpoint=None,
            exit_reason=exit_reason,
            is_tombstone=self.keeps_dead,
        )
        if self.keeps_dead:
            self._workloads[kernel_id] = dead
        self.tell(dead)

    def _check(self) -> None:
        if self.is_down:
            raise UnavailableError("the engine is down")

    # the process proxy

    async def check(self) -> None:
        """See the base class."""
        self._check()

    async def prepare(self, request: LaunchRequest) -> None:
        """See the base class."""
        self.prepared += 1
        try:
            async with asyncio.timeout(request.timeout):
                await self.pulls.wait()
        except TimeoutError as exc:
            raise PreparingError("the image is being pulled") from exc

    def preparing(self, request: LaunchRequest) -> ImagePull | None:
        """See the base class."""
        del request
        if self.pulls.is_set():
            return None
        return ImagePull("team/kernel:1", 7, 3, 1300, 412, 21, is_size_known=True)

    async def launch(self, request: LaunchRequest) -> Workload:
        """See the base class."""
        self._check()
        self.requests.append(request)
        present = self._workloads.get(request.kernel_id)
        if present is not None and present.state is not WorkloadState.DEAD:
            raise ConflictError(f"Kernel {request.kernel_id} exists already.")
        starting = Workload(
            kernel_id=request.kernel_id,
            name=workload_name(request.username, request.kernel_id),
            username=escape_username(request.username),
            state=WorkloadState.STARTING,
            created=time.time(),
            launch_id=request.launch_id,
            pool=request.pool,
            usage=request.resources.usage,
        )
        self.announce(starting)
        try:
            await self._pass_gate()
        except BaseException as exc:
            self.cancelled += isinstance(exc, asyncio.CancelledError)
            self._publish(request.kernel_id, "exit code 137 (killed)")
            raise
        path = self._folder / f"{request.kernel_id[:8]}-{len(self.requests)}.sock"
        agent = FakeAgent(
            path,
            request.kernel_id,
            request.launch_token,
            kernel_name=request.kernel_name,
            username=request.username,
        )
        try:
            await agent.start()
        except BaseException as exc:  # its client left at this very moment
            await agent.stop()
            self.cancelled += isinstance(exc, asyncio.CancelledError)
            self._publish(request.kernel_id, "exit code 137 (killed)")
            raise
        self.agents[request.kernel_id] = agent
        workload = replace(
            starting, state=WorkloadState.RUNNING, endpoint=AgentEndpoint(unix_path=str(path))
        )
        self.announce(workload)
        return workload

    async def _pass_gate(self) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    async def pause(self, workload: Workload) -> None:
        """See the base class."""
        self._check()
        self.pauses += 1
        self.freeze(workload.kernel_id)
        self.tell_paused(workload.kernel_id, is_paused=True)

    async def resume(self, workload: Workload) -> None:
        """See the base class."""
        self._check()
        self.agents[workload.kernel_id].silence.set()
        self.paused.discard(workload.kernel_id)
        self.tell_paused(workload.kernel_id, is_paused=False)

    async def observe(self, kernel_id: str) -> Workload | None:
        """See the base class."""
        self.observations.append(kernel_id)
        self._check()
        return self._workloads.get(kernel_id)

    async def list(self) -> list[Workload]:
        """See the base class."""
        self._check()
        return [*self._workloads.values()]

    async def launched_with(self, workload: Workload) -> Mapping[str, str]:
        """See the base class."""
        self._check()
        known = {request.kernel_id: request.env for request in self.requests}
        own = {"EG_AGENT_TOKEN": "secret", "PUBLIC_KEY": "key", "PATH": "/bin"}
        return {} if self.is_forgetful else {**known.get(workload.kernel_id, {}), **own}

    async def watch(self) -> AsyncIterator[Workload]:
        """See the base class."""
        queue: asyncio.Queue[Workload] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            for workload in self._workloads.values():
                yield workload
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    async def read_log(self, kernel_id: str, max_bytes: int) -> str:
        """See the base class."""
        del kernel_id, max_bytes
        return ""

    async def remove(self, kernel_id: str) -> None:
        """See the base class."""
        self._check()
        self.removals.append(kernel_id)
        agent = self.agents.pop(kernel_id, None)
        if agent is not None:
            if "POST /v1/shutdown" in agent.calls and agent.silence.is_set():
                self.ended_in_order.append(kernel_id)
            await agent.stop()
        present = self._workloads.pop(kernel_id, None)
        if present is not None and present.state is WorkloadState.DEAD:
            self.tell(replace(present, state=WorkloadState.GONE))
        elif present is not None:
            ended = replace(present, state=WorkloadState.DEAD, endpoint=None)
            self.tell(replace(ended, exit_reason="removed"))


def proxies_of(engine: FakeEngine) -> Any:
    """Return what stands in for the class `ProxyRegistry`."""
    return lambda _live: engine


def launches_of(engine: FakeEngine) -> list[LaunchRequest]:
    """Return all launches, without the ids and tokens that tell those of one kernel apart."""
    tokens = {request.launch_token for request in engine.requests}
    assert len(tokens) == len(engine.requests)
    return [replace(each, launch_id="", launch_token="") for each in engine.requests]
