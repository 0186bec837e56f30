"""Spreads the events of this replica to those who subscribe. It never waits for one of them."""

import asyncio
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter

from enterprise_gateway.services.events.events import KINDS, KernelEvent, encode_event

MAX_RECENT = 2000
"""How many events a client that comes back can be told again."""
MAX_KNOWN_IDS = 10_000
"""How many ids of past events are kept, so that none is told twice."""

SINKS = ("file", "log", "stream", "webhook")
"""Names of consumers in the metric of lost events."""

_CHEAP = frozenset({"requested", "refused", "failed"})
"""Kinds of which a client can cause any number; each is told by one replica, once."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event on its way to the sinks."""

    id: str
    kind: str
    data: bytes
    """Its JSON, in one line without its end."""


class Subscription:
    """The events from now on, for one consumer.

    Of a consumer that is too slow the oldest events are dropped, and counted: first those that any
    client can cause without a kernel, so that refused requests drive out no account of usage.
    """

    def __init__(self, limit: int, lost: Counter, earlier: list[Entry]) -> None:
        self._limit = limit
        self._lost = lost
        self._waiting: deque[Entry] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False
        self._dropped = 0
        for entry in earlier:
            self.offer(entry)

    def offer(self, entry: Entry) -> None:
        """Add an event, in the place of another one if there is no room."""
        if self._is_closed:
            return
        if len(self._waiting) >= self._limit:
            cheap = (index for index, each in enumerate(self._waiting) if each.kind in _CHEAP)
            del self._waiting[next(cheap, 0)]
            self.count_lost(1)
        self._waiting.append(entry)
        self._changed.set()

    async def next_batch(self) -> list[Entry]:
        """Wait for events; return all that there are, the oldest first. []: it is closed."""
        while not (self._waiting or self._is_closed):
            self._changed.clear()
            await self._changed.wait()
        batch = list(self._waiting)
        self._waiting.clear()
        return batch

    def count_lost(self, count: int) -> None:
        """Count events that the consumer does not get."""
        self._dropped += count
        self._lost.inc(count)

    def take_dropped(self) -> int:
        """Return how many events were lost since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def close(self) -> None:
        """Take no more events. Those that wait are still returned."""
        self._is_closed = True
        self._changed.set()


class EventBus:
    """Tells each event of this replica once."""

    def __init__(self) -> None:
        self._recent: deque[Entry] = deque(maxlen=MAX_RECENT)
        self._known: OrderedDict[str, None] = OrderedDict()
        self._subscriptions: set[Subscription] = set()
        self._count = Counter(
            "eg_events", "Events of kernels that this replica told.", ["kind"], registry=None
        )
        self._lost = Counter(
            "eg_events_lost",
            "Events that a consumer did not get.",
            ["sink"],
            registry=None,
        )
        for kind in KINDS:  # so that each is 0, and not absent, before it is first counted
            self._count.labels(kind)
        for sink in SINKS:
            self._lost.labels(sink)

    def export(self, registry: CollectorRegistry) -> None:
        """Have a registry show the counters."""
        registry.register(self._count)
        registry.register(self._lost)

    def publish(self, event: KernelEvent) -> None:
        """Tell an event, unless one with its id was told before. It never raises or waits."""
        if event.id in self._known:
            return
        try:
            entry = Entry(event.id, _kind_of(event), encode_event(event))
        except Exception:  # noqa: BLE001 - telling of a kernel must not keep it from its user
            _log.exception("An event cannot be told")
            return
        if entry.kind not in _CHEAP:
            self._known[event.id] = None
            if len(self._known) > MAX_KNOWN_IDS:
                self._known.popitem(last=False)
        self._recent.append(entry)
        self._count.labels(entry.kind).inc()
        for subscription in self._subscriptions:
            subscription.offer(entry)

    def subscribe(self, sink: str, limit: int, since: str | None = None) -> Subscription:
        """Return a subscription to later events.

        Args:
            sink: its name in the metric of lost events.
            limit: how many events may wait for the consumer.
            since: the id of the last event that the consumer has had; those after it come first.
                If it is not known any more, all that are remembered do.
        """
        earlier = list(self._recent) if since is not None else []
        known = next((i for i, entry in enumerate(earlier) if entry.id == since), -1)
        subscription = Subscription(limit, self._lost.labels(sink), earlier[known + 1 :])
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        self._subscriptions.discard(subscription)
        subscription.close()

    def close(self) -> None:
        """End all subscriptions. Their consumers get what waits for them."""
        for subscription in list(self._subscriptions):
            self.unsubscribe(subscription)


def _kind_of(event: KernelEvent) -> str:
    return str(type(event).__struct_config__.tag)
