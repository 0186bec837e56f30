"""The engine's containers, followed: one list, then events, then one list again after each break.

One follower serves a whole process proxy: it publishes every change of a workload, and hands the
raw events of a kernel to whoever is launching it.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from enterprise_gateway.errors import GatewayError, UnavailableError
from enterprise_gateway.services.processproxies.contract import Workload, WorkloadState
from enterprise_gateway.services.processproxies.docker_engine import DockerEngine
from enterprise_gateway.services.processproxies.docker_workloads import (
    describe_exit,
    workload_of_container,
    workload_of_event,
)
from enterprise_gateway.services.processproxies.feed import WorkloadFeed

Observer = Callable[[str, Workload, str], None]
"""Called with an action ("create", "start", "die", "destroy"), the workload, and the container's
id.
"""

_OVERLAP = 2.0
"""Seconds that events are asked for from before a list, so that nothing falls between the two."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_STALE_AFTER = 120.0
"""Seconds after which a container that was created but never started has nobody who would start it.
"""

_log = logging.getLogger(__name__)


class DockerWatch:
    """Knows the kernels' containers, as long as `run` runs."""

    def __init__(self, engine: DockerEngine, network: Callable[[], str]) -> None:
        self._engine = engine
        self._network = network
        self.feed = WorkloadFeed()
        self.known: dict[str, Workload] = {}
        """By container id."""
        self._out_of_memory: set[str] = set()
        self._observers: dict[str, set[Observer]] = {}

    @contextmanager
    def observe(self, kernel_id: str, observer: Observer) -> Iterator[None]:
        """Have an observer called at each event of a kernel's containers."""
        self._observers.setdefault(kernel_id, set()).add(observer)
        try:
            yield
        finally:
            self._observers[kernel_id].discard(observer)
            if not self._observers[kernel_id]:
                del self._observers[kernel_id]

    async def run(self) -> None:
        """Follow the engine for ever."""
        pause = _FIRST_PAUSE
        reachable = True
        while True:
            try:
                async with (
                    self._engine.events(time.time() - _OVERLAP) as events,
                    asyncio.timeout(None) as look,
                ):
                    await self._list()
                    if not reachable:
                        _log.info("The Docker engine answers again")
                    reachable, pause = True, _FIRST_PAUSE
                    look.reschedule(self._next_look())
                    async for event in events:
                        await self._handle(event)
                        look.reschedule(self._next_look())
            except TimeoutError:
                continue
            except UnavailableError as exc:
                if reachable:
                    _log.warning("%s Trying again until it can.", exc)
                reachable = False
            except Exception:  # noqa: BLE001 - the root of a task that must go on
                _log.exception("An event of the Docker engine could not be understood")
            # An engine that is away announces its return to nobody.
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _next_look(self) -> float | None:
        """Return when to list all again, by the event loop's clock: a start may never come."""
        starting = [
            workload.created
            for workload in self.known.values()
            if workload.state is WorkloadState.STARTING
        ]
        if not starting:
            return None
        remaining = min(starting) + _STALE_AFTER - time.time()
        return asyncio.get_running_loop().time() + max(remaining, _LONGEST_PAUSE)

    async def _list(self) -> None:
        gone = dict(self.known)
        for container in await self._engine.containers():
            workload = workload_of_container(container, self._network())
            if workload is None:
                continue
            gone.pop(container["Id"], None)
            stale = time.time() - workload.created > _STALE_AFTER
            if container["State"] == "created" and stale:
                await self._remove_stale(container["Id"], workload)
            else:
                self._publish("list", workload, container["Id"])
        for container_id, workload in gone.items():
            if workload.state is not WorkloadState.DEAD:
                self._publish(
                    "destroy", _dead(workload, describe_exit("", out_of_memory=False)), container_id
                )
            self.known.pop(container_id, None)

    async def _remove_stale(self, container_id: str, workload: Workload) -> None:
        _log.info(
            "Removing the container of kernel %s, which was never started", workload.kernel_id
        )
        with contextlib.suppress(GatewayError):
            await self._engine.remove(container_id)

    async def _handle(self, event: Mapping[str, Any]) -> None:
        action = event["Action"]
        container_id = event["Actor"]["ID"]
        if action == "create":
            if container_id not in self.known:  # or the list, newer than the event, had it
                starting = workload_of_event(event, WorkloadState.STARTING)
                self._publish(action, starting, container_id)
        elif action == "start":
            await self._handle_start(event, container_id)
        elif action == "oom":
            self._out_of_memory.add(container_id)
        elif action == "die":
            exit_code = event["Actor"]["Attributes"].get("exitCode", "")
            reason = describe_exit(exit_code, out_of_memory=container_id in self._out_of_memory)
            self._publish(action, self._ended(event, container_id, reason), container_id)
        elif action == "destroy":
            self._out_of_memory.discard(container_id)
            known = self.known.get(container_id)
            if known is None or known.state is not WorkloadState.DEAD:
                reason = describe_exit("", out_of_memory=False)
                self._publish(action, self._ended(event, container_id, reason), container_id)
            self.known.pop(container_id, None)

    async def _handle_start(self, event: Mapping[str, Any], container_id: str) -> None:
        kernel_id = event["Actor"]["Attributes"].get("kernel_id", "")
        for container in await self._engine.containers(kernel_id):
            if container["Id"] == container_id:
                workload = workload_of_container(container, self._network())
                if workload is not None and workload.state is not WorkloadState.DEAD:
                    self._publish("start", workload, container_id)

    def _ended(self, event: Mapping[str, Any], container_id: str, reason: str) -> Workload:
        known = self.known.get(container_id)
        if known is not None:
            return _dead(known, reason)
        return workload_of_event(event, WorkloadState.DEAD, reason)

    def _publish(self, action: str, workload: Workload, container_id: str) -> None:
        known = self.known.get(container_id)
        if known is not None and known.state is WorkloadState.DEAD:
            return  # a replayed event: the dead do not start again
        if known == workload:
            return
        self.known[container_id] = workload
        for observer in tuple(self._observers.get(workload.kernel_id, ())):
            observer(action, workload, container_id)
        successor = workload.state is WorkloadState.DEAD and any(
            other.kernel_id == workload.kernel_id and other.state is not WorkloadState.DEAD
            for other in self.known.values()
        )
        if not successor:
            self.feed.publish(workload)


def _dead(workload: Workload, reason: str) -> Workload:
    return Workload(
        kernel_id=workload.kernel_id,
        name=workload.name,
        username=workload.username,
        state=WorkloadState.DEAD,
        created=workload.created,
        exit_reason=reason,
    )
