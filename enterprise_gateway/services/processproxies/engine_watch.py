"""Following an engine: what is common to containers and services.

One follower serves a whole process proxy: it publishes every change of a workload, and tells
whoever is launching a kernel how that is getting on. A kernel and its companion are one workload.
"""

import asyncio
import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.services.processproxies.couples import PARTING_DELAY, Couple, Couples, Part
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
    """The id of the kernel's container or service."""
    workload: Workload
    detail: str = ""
    """While it is starting: what it waits for, as a sentence."""
    companion_id: str = ""
    """The id of its companion's, if it has one."""


Observer = Callable[[Sighting], None]


class EngineWatch(ABC):
    """Knows the workloads of one kind, as long as `run` runs."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self.feed = WorkloadFeed()
        self.known: dict[str, Workload] = {}
        """By the engine's id of the kernel's container or service."""
        self._couples = Couples()
        self._partings: dict[str, float] = {}
        """By engine id: when the half that is left of a couple is to be removed."""
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

    def _publish(self, part: Part, detail: str = "") -> None:
        """Tell everybody to whom it is news what was seen of a container or service."""
        known = self._couples.part(part.engine_id)
        if known is not None and known.is_dead:
            return  # an event that is late: the dead do not start again
        self._tell(part.subject, self._couples.put(part), detail)

    def _publish_gone(self, engine_id: str, reason: str) -> None:
        """Tell that something is no longer there; that of what was dead is no news."""
        part = self._couples.part(engine_id)
        if part is None:
            return
        self._publish(dead(part, reason))
        self._couples.drop(engine_id)
        couple = self._couples.get(part.subject)
        if couple is not None:
            self._tell(part.subject, couple)
        else:
            del self.known[part.subject]

    def _tell(self, subject: str, couple: Couple, detail: str = "") -> None:
        """Tell of a workload what its parts make of it."""
        workload = couple.workload
        known = self.known.get(subject)
        if known is not None and known.state is WorkloadState.DEAD:
            return
        self.known[subject] = workload
        sighting = Sighting(subject, workload, detail, couple.companion_id)
        for observer in tuple(self._observers.get(workload.kernel_id, ())):
            observer(sighting)
        if known != workload and not (
            workload.state is WorkloadState.DEAD and self._lives(workload.kernel_id)
        ):
            self.feed.publish(workload)

    def _due_partings(self, left: Iterable[str], now: float) -> list[str]:
        """Return what is to be removed now, of what should not have been left alone.

        Args:
            left: the engine's ids of all such halves.
            now: by the event loop's clock.
        """
        self._partings = {
            engine_id: self._partings.get(engine_id, now + PARTING_DELAY) for engine_id in left
        }
        return [engine_id for engine_id, due in self._partings.items() if due <= now]

    def _lives(self, kernel_id: str) -> bool:
        """Whether there is a workload of a kernel that is not dead."""
        return any(
            other.kernel_id == kernel_id and other.state is not WorkloadState.DEAD
            for other in self.known.values()
        )


def dead(part: Part, reason: str) -> Part:
    """Return a container or service after its death."""
    workload = dataclasses.replace(
        part.workload, state=WorkloadState.DEAD, endpoint=None, exit_reason=reason
    )
    return dataclasses.replace(part, workload=workload)
