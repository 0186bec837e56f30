"""The state document: who is told of what."""

import asyncio
from typing import Any

from kernel_agent.state import State

DEADLINE = 10.0


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
    state.changed()
    assert (await earlier.next())["connections"] == 1
    earlier.unsubscribe()
    document["connections"] = 0
    state.changed()
    later = Watcher(state)
    assert later.document["connections"] == 0
    document["connections"] = 1
    state.changed()
    assert (await later.next())["connections"] == 1
