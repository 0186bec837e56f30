"""The kernels of the simulation, which its engine and its agents share."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping

from benchmarks.simulation.documents import Document, container_event, service_event
from benchmarks.simulation.kernel import Place, SimulatedKernel, make_kernel

SPARE_KERNELS = 16
"""How many kernels may be started beside those that there are from the beginning."""


class Cluster:
    """All kernels, and who wants to hear of changes.

    Attributes:
        place: what kind of kernels they are.
        calls: of the engine's interface, by method and path.
        sent: messages of all agents.
    """

    def __init__(self, place: Place, kernels: int) -> None:
        self.place = place
        self.calls: Counter[str] = Counter()
        self.sent = 0
        self.numbers = range(1, kernels + SPARE_KERNELS + 1)
        self._kernels = {number: make_kernel(number) for number in range(1, kernels + 1)}
        self._subscribers: set[asyncio.Queue[Document]] = set()
        self._watchers: dict[SimulatedKernel, set[asyncio.Event]] = {}

    def __iter__(self) -> Iterator[SimulatedKernel]:
        return iter(list(self._kernels.values()))

    def at(self, address: str) -> SimulatedKernel | None:
        """The kernel whose agent listens there."""
        third, fourth = address.split(".")[2:]
        return self._kernels.get(int(third) << 8 | int(fourth))

    def create(
        self, name: str, env: list[str], labels: Mapping[str, str], *, is_running: bool
    ) -> SimulatedKernel:
        """Add a kernel."""
        number = next(number for number in self.numbers if number not in self._kernels)
        kernel = SimulatedKernel(
            number, labels.get("kernel_id", ""), name, env, dict(labels), is_running=is_running
        )
        self._kernels[number] = kernel
        self.publish(kernel, "create")
        return kernel

    def remove(self, kernel: SimulatedKernel) -> None:
        """Take a kernel away."""
        self._kernels.pop(kernel.number, None)
        actions = ("die", "destroy") if self.place is Place.CONTAINERS else ("remove",)
        for action in actions:
            self.publish(kernel, action)
        self.change(kernel)

    def has(self, kernel: SimulatedKernel) -> bool:
        """Whether it is there still."""
        return self._kernels.get(kernel.number) is kernel

    def publish(self, kernel: SimulatedKernel, action: str) -> None:
        """Tell the followers of the engine's events."""
        describe = container_event if self.place is Place.CONTAINERS else service_event
        event = describe(kernel, action, time.time())
        for subscriber in self._subscribers:
            subscriber.put_nowait(event)

    def subscribe(self) -> asyncio.Queue[Document]:
        """Return a queue that gets every event from now on."""
        queue: asyncio.Queue[Document] = asyncio.Queue()
        self._subscribers.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[Document]) -> None:
        """Undo `subscribe`."""
        self._subscribers.discard(queue)

    def change(self, kernel: SimulatedKernel) -> None:
        """Have a kernel's agent tell its state."""
        for watcher in self._watchers.get(kernel, ()):
            watcher.set()

    def watch(self, kernel: SimulatedKernel) -> asyncio.Event:
        """Return an event that every change of a kernel's state sets."""
        watcher = asyncio.Event()
        self._watchers.setdefault(kernel, set()).add(watcher)
        return watcher

    def unwatch(self, kernel: SimulatedKernel, watcher: asyncio.Event) -> None:
        """Undo `watch`."""
        self._watchers[kernel].discard(watcher)
