"""The state document: who is told of what."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

from kernel_agent.server.http import Request, Response, Stream
from kernel_agent.server.routes import Routes
from kernel_agent.server.state import ACTIVITY_INTERVAL_SECONDS, State

DEADLINE = 60.0


class Watcher:
    """A subscriber that keeps what it was told, as the event stream does."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._told = asyncio.Event()
        self.unsubscribe = state.subscribe(self._told.set)
        self.document = state.document()

    async def next(self) -> dict[str, Any]:
        """Return the document that comes next."""
        async with asyncio.timeout(DEADLINE):
            await self._told.wait()
        self._told.clear()
        self.document = self._state.document()
        return self.document


async def test_every_subscriber_learns_of_a_change_back() -> None:
    """Also of one to what an earlier subscriber, now gone, was told last."""
    document = {"connections": 1}
    state = State(lambda: dict(document))
    earlier = Watcher(state)
    state.mark_changed()
    assert (await earlier.next())["connections"] == 1
    earlier.unsubscribe()
    document["connections"] = 0
    state.mark_changed()
    later = Watcher(state)
    assert later.document["connections"] == 0
    document["connections"] = 1
    state.mark_changed()
    assert (await later.next())["connections"] == 1


async def test_activity_alone_is_told_once_a_second_and_changes_at_once() -> None:
    """A kernel that prints all the time does not have the document made all the time."""
    made = 0
    document = {"last_activity": 0, "connections": 1}

    def describe() -> dict[str, Any]:
        nonlocal made
        made += 1
        return dict(document)

    state = State(describe)
    watcher = Watcher(state)
    state.mark_changed()
    await watcher.next()
    made = 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    told = asyncio.create_task(watcher.next())
    while not told.done():
        document["last_activity"] += 1
        state.mark_active()
        await asyncio.sleep(0.001)
    assert loop.time() - began > ACTIVITY_INTERVAL_SECONDS / 2
    assert made == 2  # to compare it, and for the watcher
    state.mark_active()
    document["connections"] = 2
    state.mark_changed()
    assert (await watcher.next())["connections"] == 2
    assert made == 4


async def test_slow_reader_of_the_events_learns_of_the_end() -> None:
    """Also one that had not taken the line before when the end came."""
    nothing: Any = None
    state = State(lambda: {"execution_state": "idle"})
    routes = Routes(nothing, state, nothing, nothing, nothing, nothing, nothing, nothing)
    answer = await routes.handle(Request("GET", "/v1/events", {}, {}, b""))
    assert isinstance(answer, Stream)
    states = []
    async for line in answer.chunks:
        states.append(json.loads(line)["execution_state"])
        state.end()
    assert states == ["idle", "dead"]


async def test_requested_end_is_told_before_it_comes() -> None:
    """A kernel may end sooner than changes are told, and a gateway kills its agent then.

    The other gateways would take that for the kernel's death.
    """
    nothing: Any = None
    document = {"execution_state": "idle"}
    state = State(lambda: dict(document))

    def end(*_: object) -> None:
        document["execution_state"] = "terminating"
        state.mark_changed()

    supervisor: Any = SimpleNamespace(end=end)
    executions: Any = SimpleNamespace(finish=AsyncMock())
    routes = Routes(supervisor, state, nothing, nothing, nothing, nothing, nothing, executions)
    told: list[str] = []
    state.subscribe(lambda: told.append(state.document()["execution_state"]))
    request = Request("POST", "/v1/shutdown", {}, {}, b"")
    ending = asyncio.create_task(routes.handle(request))
    await asyncio.sleep(0)
    assert told == ["terminating"]
    state.end()
    answer = await ending
    assert isinstance(answer, Response)
    assert answer.status == 204
    assert told == ["terminating", "dead"]
