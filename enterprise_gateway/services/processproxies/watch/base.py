"""Following an engine: the part that containers and services have in common.

One `EngineWatch` serves a whole process proxy: it publishes every change of a workload, and passes
observations on to the launches under way. A kernel and its sidecar are one workload.
"""

import asyncio
import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.workloads.feed import WorkloadFeed
from enterprise_gateway.services.processproxies.workloads.sidecars import (
    Member,
    Observation,
    PairIndex,
    PairKey,
    SidecarPair,
)
from enterprise_gateway.settings import DelaySettings, LiveSettings

EVENT_OVERLAP_SECONDS = 2.0
"""How far the events reach back before the list that follows, so that no change is missed."""
_MAX_PAUSE_SECONDS = 5.0

_log = logging.getLogger(__name__)

Observer = Callable[[Observation], None]


class EngineWatch(ABC):
    """Keeps track of the workloads of one kind, as long as `run` runs."""

    def __init__(self, engine: DockerEngine, settings: LiveSettings) -> None:
        self._engine = engine
        self._settings = settings
        self.feed = WorkloadFeed()
        self.known: dict[PairKey, Workload] = {}
        self._pairs = PairIndex()
        self._removals_due: dict[str, float] = {}
        """When a container is to be removed, by its engine id."""
        self._observers: dict[str, set[Observer]] = {}
        self._pause = self._delays.engine_retry_seconds

    @property
    def _delays(self) -> DelaySettings:
        return self._settings.current.delays

    @property
    def _network(self) -> str:
        """The name of the kernels' network."""
        return self._settings.current.docker.network

    @contextmanager
    def subscribe(self, kernel_id: str, observer: Observer) -> Iterator[None]:
        """Call the observer at every change of the kernel's workload, within this context."""
        self._observers.setdefault(kernel_id, set()).add(observer)
        try:
            yield
        finally:
            self._observers[kernel_id].discard(observer)
            if not self._observers[kernel_id]:
                del self._observers[kernel_id]

    async def run(self) -> None:
        """Follow the engine for ever."""
        while True:
            try:
                await self._sync()
            except UnavailableError as exc:
                self._engine.log_silence(exc)
            except Exception:  # noqa: BLE001 - the root of a task that must go on
                _log.exception("Following the Docker engine failed. Trying again.")
            # An engine that is away does not announce its return.
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, _MAX_PAUSE_SECONDS)

    @abstractmethod
    async def _sync(self) -> None:
        """List the workloads and follow the events until the connection ends."""

    def _record_answer(self) -> None:
        """Record that the engine has answered with a list."""
        self._engine.log_answer()
        self._pause = self._delays.engine_retry_seconds

    def _publish(self, member: Member, detail: str = "") -> None:
        """Publish the state of a container or service, if it has changed.

        Args:
            member: the container or service as it was seen.
            detail: while it is starting: a sentence about what it waits for.
        """
        known = self._pairs.member(member.engine_id)
        if known is not None and known.is_dead:
            return  # a late event: dead containers do not start again
        self._notify(member.pair, self._pairs.add(member), detail)

    def _publish_removed(self, engine_id: str, reason: str) -> None:
        """Publish the removal of a container or service, unless it was dead."""
        member = self._pairs.member(engine_id)
        if member is None:
            return
        self._publish(dead(member, reason))
        self._pairs.drop(engine_id)
        pair = self._pairs.get(member.pair)
        if pair is not None:
            self._notify(member.pair, pair)
        else:
            del self.known[member.pair]

    def _notify(self, key: PairKey, pair: SidecarPair, detail: str = "") -> None:
        """Pass the state of a workload on to observers and, if it has changed, to followers."""
        workload = pair.workload
        known = self.known.get(key)
        if known is not None and known.state is WorkloadState.DEAD:
            return
        self.known[key] = workload
        observation = Observation(key.kernel_container_id, workload, detail, pair.sidecar_id)
        for observer in tuple(self._observers.get(workload.kernel_id, ())):
            observer(observation)
        if known != workload and not (
            workload.state is WorkloadState.DEAD and self._is_alive(workload.kernel_id)
        ):
            self.feed.publish(workload)

    def _take_due_removals(
        self, unpaired: Iterable[str], ended: Iterable[str], now: float
    ) -> list[str]:
        """Bring the due times up to date and return the engine ids of containers to remove now.

        Args:
            unpaired: engine ids of all containers whose other half has ended.
            ended: engine ids of all ended containers that are to be removed.
            now: by the event loop's clock.
        """
        due = dict.fromkeys(unpaired, now + self._delays.unpaired_grace_seconds) | dict.fromkeys(
            ended, now + self._delays.ended_container_seconds
        )
        self._removals_due = {
            engine_id: self._removals_due.get(engine_id, time) for engine_id, time in due.items()
        }
        return [engine_id for engine_id, time in self._removals_due.items() if time <= now]

    def _is_alive(self, kernel_id: str) -> bool:
        """Return whether some workload of the kernel is not dead."""
        return any(
            other.kernel_id == kernel_id and other.state is not WorkloadState.DEAD
            for other in self.known.values()
        )


def dead(member: Member, reason: str) -> Member:
    """Return a container or service as it is after its death."""
    workload = dataclasses.replace(
        member.workload, state=WorkloadState.DEAD, endpoint=None, exit_reason=reason
    )
    return dataclasses.replace(member, workload=workload)
