"""The state document, its subscribers, and the annotations in it."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, List, Mapping, Optional

from kernel_agent.kernel.activity import ExecutionState
from kernel_agent.wire.message import encode_json

COALESCE_SECONDS = 0.05
"""Changes within this period are published together."""
ACTIVITY_INTERVAL_SECONDS = 1.0
"""Minimum interval of publications of `last_activity` and `usage` alone."""
_FREQUENT = ("last_activity", "usage")


class Annotations:
    """A small JSON document with compare-and-set.

    Attributes:
        document: what it is now.
    """

    def __init__(self) -> None:
        self._revision = 0
        self.document: Dict[str, Any] = {}

    def replace(self, expected_revision: int, document: Dict[str, Any]) -> bool:
        """Replace the document of this revision; return False if another revision is current."""
        if expected_revision != self._revision:
            return False
        self._revision += 1
        self.document = document
        return True

    def describe(self) -> Dict[str, Any]:
        """Return revision and document, as the HTTP interface shows them."""
        return {"revision": self._revision, "document": self.document}


class State:
    """Composes the state document and notifies subscribers of changes.

    Attributes:
        annotations: the document that the gateway keeps with the kernel.
        claimed: set once a client has claimed the kernel.
    """

    def __init__(self, describe: Callable[[], Mapping[str, Any]]) -> None:
        """Prepare; `describe` returns the document without the fields that are kept here."""
        self._describe = describe
        self._loop = asyncio.get_running_loop()
        self._published: Dict[str, Any] = {}
        self._published_at = 0.0
        self._timer: Optional[asyncio.TimerHandle] = None
        self._subscribers: List[Callable[[], None]] = []
        self._end = asyncio.Event()
        self.claimed = asyncio.Event()
        self.annotations = Annotations()

    @property
    def has_ended(self) -> bool:
        """Whether the kernel has ended for good."""
        return self._end.is_set()

    def document(self) -> Dict[str, Any]:
        """Return the state document as it is now."""
        document = {
            **self._describe(),
            "claimed": self.claimed.is_set(),
            "annotations": self.annotations.describe(),
        }
        if self.has_ended:
            document["execution_state"] = ExecutionState.DEAD.value
        return document

    def line(self) -> bytes:
        """Return the document as one line of JSON."""
        return encode_json(self.document()) + b"\n"

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after changes; return a function that unsubscribes it."""
        # The first line of the new subscriber may differ from the last publication.
        self._published = {}
        self._subscribers.append(listener)
        return lambda: self._subscribers.remove(listener)

    def mark_changed(self) -> None:
        """Publish the document soon, since it may have changed."""
        soon = self._loop.time() + COALESCE_SECONDS
        if self._timer is not None and self._timer.when() > soon:  # set for activity alone
            self._timer.cancel()
            self._timer = None
        if self._timer is None and self._subscribers:
            self._timer = self._loop.call_at(soon, self._publish)

    def tell_at_once(self) -> None:
        """Publish the document now, with the changes that would be published soon."""
        if self._timer is not None:
            self._timer.cancel()
        self._publish()

    def mark_active(self) -> None:
        """Publish the document when it is due, since `last_activity` has changed."""
        if self._timer is None and self._subscribers:
            due = self._published_at + ACTIVITY_INTERVAL_SECONDS
            soon = self._loop.time() + COALESCE_SECONDS
            self._timer = self._loop.call_at(max(due, soon), self._publish)

    def claim(self) -> None:
        """Mark the kernel as claimed by a client; idempotent."""
        self.claimed.set()
        self.mark_changed()

    def end(self) -> None:
        """Publish the last state: the kernel has ended for good."""
        self._end.set()
        if self._timer is not None:
            self._timer.cancel()
        self._notify()

    async def wait_for_end(self) -> None:
        """Return when the kernel has ended for good."""
        await self._end.wait()

    def _publish(self) -> None:
        self._timer = None
        document = self.document()
        if document == self._published:
            return
        former = {name: self._published.get(name) for name in _FREQUENT}
        is_activity_alone = {**document, **former} == {**former, **self._published}
        due = self._published_at + ACTIVITY_INTERVAL_SECONDS
        if is_activity_alone and self._loop.time() < due - COALESCE_SECONDS:
            self._timer = self._loop.call_at(due, self._publish)
            return
        self._published = document
        self._published_at = self._loop.time()
        self._notify()

    def _notify(self) -> None:
        for subscriber in list(self._subscribers):
            subscriber()
