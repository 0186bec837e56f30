"""Following an engine: what is common to containers and services.

One follower serves a whole process proxy: it publishes every change of a workload, and tells
whoever is launching a kernel how that is getting on.
"""

import asyncio
import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine
from enterprise_gateway.services.processproxies.feed import WorkloadFeed

EVENT_OVERLAP = 2.0
"""Seconds that events are asked for from before a list, so that nothing falls between the two."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A workload as it was seen."""

    engine_id: str
    """The container's or service's id."""
    workload: Workload
    detail: str = ""
    """While it is starting: what it waits for, as a sentence."""


Observer = Callable[[Sighting], None]


class EngineWatch(ABC):
    """Knows the workloads of one kind, as long as `run` runs."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self.feed = WorkloadFeed()
        self.known: dict[str, Workload] = {}
        """By engine id."""
        self._observers: dict[str, set[Observer]] = {}
        self._pause = _FIRST_PAUSE

    @contextmanager
    def observe(self, kernel_id: str, observer: Observer) -> Iterator[None]:
        """Have an observer called whenever something of a kernel's workload is seen to change."""
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
                await self._follow()
            except UnavailableError as exc:
                self._engine.note_silence(exc)
            except Exception:  # noqa: BLE001 - the root of a task that must go on
                _log.exception("What the Docker engine says could not be understood")
            # An engine that is away announces its return to nobody.
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    @abstractmethod
    async def _follow(self) -> None:
        """List, and then follow, until the connection ends."""

    def _note_answer(self) -> None:
        """Take note that the engine has been listed."""
        self._engine.note_answer()
        self._pause = _FIRST_PAUSE

    def _publish(self, sighting: Sighting) -> None:
        """Tell everybody whom a sighting is news to."""
        workload = sighting.workload
        known = self.known.get(sighting.engine_id)
        if known is not None and known.state is WorkloadState.DEAD:
            return  # an event that is late: the dead do not start again
        self.known[sighting.engine_id] = workload
        for observer in tuple(self._observers.get(workload.kernel_id, ())):
            observer(sighting)
        if known != workload and not (
            workload.state is WorkloadState.DEAD and self._lives(workload.kernel_id)
        ):
            self.feed.publish(workload)

    def _publish_gone(self, engine_id: str, reason: str) -> None:
        """Tell that a workload is no longer there; that of one that was dead is no news."""
        known = self.known.get(engine_id)
        if known is not None:
            self._publish(Sighting(engine_id, dead(known, reason)))
            del self.known[engine_id]

    def _lives(self, kernel_id: str) -> bool:
        """Whether there is a workload of a kernel that is not dead."""
        return any(
            other.kernel_id == kernel_id and other.state is not WorkloadState.DEAD
            for other in self.known.values()
        )


def dead(workload: Workload, reason: str) -> Workload:
    """Return a workload after its death."""
    return dataclasses.replace(
        workload, state=WorkloadState.DEAD, endpoint=None, exit_reason=reason
    )
