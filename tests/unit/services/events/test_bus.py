"""The bus: each event once, to all who listen, however slow one of them is."""

import asyncio
import json

import pytest
from prometheus_client import CollectorRegistry

from enterprise_gateway.services.events import bus as bus_module
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.events.events import KINDS, Requested, Restarted

TIME = "2026-01-02T03:04:05.678901Z"


def publish(bus: EventBus, *ids: str) -> None:
    """Tell an event of each id."""
    for each in ids:
        bus.publish(Restarted(id=each, time=TIME, owner="ann", launch="l", restarts=1))


async def read(subscription: bus_module.Subscription) -> list[str]:
    """Return the ids of what waits."""
    async with asyncio.timeout(60):
        return [entry.id for entry in await subscription.next_batch()]


async def test_each_event_comes_once_to_all_who_listen() -> None:
    """In their order; those of before the subscription do not come."""
    bus = EventBus()
    publish(bus, "early")
    one, other = bus.subscribe("one", 10), bus.subscribe("other", 10)
    publish(bus, "a", "b", "a")
    assert await read(one) == ["a", "b"]
    publish(bus, "b", "c")
    assert await read(one) == ["c"]
    assert await read(other) == ["a", "b", "c"]


async def test_slow_consumer_loses_the_oldest_and_delays_no_other() -> None:
    """What it lost is counted, for itself and for the operator."""
    bus, registry = EventBus(), CollectorRegistry()
    bus.export(registry)
    slow, quick = bus.subscribe("slow", 2), bus.subscribe("quick", 10)
    publish(bus, "a", "b", "c", "d")
    assert await read(slow) == ["c", "d"]
    assert slow.take_dropped() == 2
    assert slow.take_dropped() == 0
    assert await read(quick) == ["a", "b", "c", "d"]
    assert registry.get_sample_value("eg_events_lost_total", {"sink": "slow"}) == 2
    assert registry.get_sample_value("eg_events_total", {"kind": "restarted"}) == 4
    for kind in KINDS:
        assert registry.get_sample_value("eg_events_total", {"kind": kind}) is not None


async def test_requests_drive_out_no_account() -> None:
    """A client can cause any number of them; what kernels have used is told to the end."""
    bus = EventBus()
    slow = bus.subscribe("slow", 3)
    bus.publish(Requested(id="r1", time=TIME))
    publish(bus, "a", "b")
    for number in range(2, 9):
        bus.publish(Requested(id=f"r{number}", time=TIME))
    assert await read(slow) == ["a", "b", "r8"]
    assert slow.take_dropped() == 7


async def test_consumer_that_comes_back_goes_on_where_it_was() -> None:
    """After the last one that it had; if that is not known, with all that is remembered."""
    bus = EventBus()
    publish(bus, "a", "b", "c")
    assert await read(bus.subscribe("s", 10, "b")) == ["c"]
    assert await read(bus.subscribe("s", 10, "of another replica")) == ["a", "b", "c"]
    up_to_date = bus.subscribe("s", 10, "c")
    publish(bus, "d")
    assert await read(up_to_date) == ["d"]


async def test_end_of_a_subscription_leaves_what_waits() -> None:
    """Then there is nothing more, also for a consumer that waits already."""
    bus = EventBus()
    subscription = bus.subscribe("s", 10)
    publish(bus, "a")
    bus.close()
    publish(bus, "b")
    assert await read(subscription) == ["a"]
    assert await read(subscription) == []
    waiting = EventBus()
    reader = asyncio.create_task(read(waiting.subscribe("s", 10)))
    await asyncio.sleep(0)
    waiting.close()
    assert await reader == []


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither ids nor events are kept for ever."""
    monkeypatch.setattr(bus_module, "MAX_KNOWN_IDS", 3)
    bus = EventBus()
    subscription = bus.subscribe("s", 100)
    publish(bus, *"abcd", "a")
    assert await read(subscription) == [*"abcd", "a"]
    many = EventBus()
    publish(many, *map(str, range(bus_module.MAX_RECENT + 5)))
    assert len(await read(many.subscribe("s", 10**6, ""))) == bus_module.MAX_RECENT


async def test_event_that_cannot_be_encoded_hurts_no_request() -> None:
    """A start must not fail for it."""
    bus = EventBus()
    subscription = bus.subscribe("s", 10)
    bus.publish(Requested(id="a", time=TIME, owner="\ud800"))
    publish(bus, "b")
    assert await read(subscription) == ["b"]


async def test_event_is_one_line_of_json() -> None:
    """Whatever its texts hold."""
    bus = EventBus()
    subscription = bus.subscribe("s", 10)
    bus.publish(Requested(id="a", time=TIME, owner="ann\n\u2028\r\nevent: forged"))
    (entry,) = await subscription.next_batch()
    assert b"\n" not in entry.data
    assert b"\r" not in entry.data
    assert json.loads(entry.data)["owner"] == "ann\n\u2028\r\nevent: forged"
