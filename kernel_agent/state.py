"""The state document, its stream of changes, and the annotations in it."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, List, Mapping, Optional

from kernel_agent.activity import ExecutionState
from kernel_agent.message import encode_json

COALESCE = 0.05
"""Seconds; changes within are one line."""
ACTIVITY_INTERVAL = 1.0
"""Seconds; a change of `last_activity` alone is told at most so often."""


class Annotations:
    """A small JSON document with compare-and-set."""

    def __init__(self) -> None:
        self._revision = 0
        self._document: Dict[str, Any] = {}

    def replace(self, expected_revision: int, document: Dict[str, Any]) -> bool:
        """Put a document in place of the one with this revision; False if another is current."""
        if expected_revision != self._revision:
            return False
        self._revision += 1
        self._document = document
        return True

    def describe(self) -> Dict[str, Any]:
        """Return what the interface shows."""
        return {"revision": self._revision, "document": self._document}


class State:
    """Composes the state document and tells subscribers when it changes.

    Attributes:
        annotations: what the gateway keeps with the kernel.
        has_ended: whether the kernel is gone for good.
    """

    def __init__(self, describe: Callable[[], Mapping[str, Any]]) -> None:
        """Prepare; `describe` returns the document but for what is kept here."""
        self._describe = describe
        self._loop = asyncio.get_running_loop()
        self._published: Dict[str, Any] = {}
        self._published_at = 0.0
        self._timer: Optional[asyncio.TimerHandle] = None
        self._subscribers: List[Callable[[], None]] = []
        self._end = asyncio.Event()
        self.annotations = Annotations()

    @property
    def has_ended(self) -> bool:
        """Whether `end` was called."""
        return self._end.is_set()

    def document(self) -> Dict[str, Any]:
        """Return the state document as it is now."""
        document = {**self._describe(), "annotations": self.annotations.describe()}
        if self.has_ended:
            document["execution_state"] = ExecutionState.DEAD.value
        return document

    def line(self) -> bytes:
        """Return the document as one line of JSON."""
        return encode_json(self.document()) + b"\n"

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after changes; the function returned ends that."""
        # What the new one begins with may differ from what was published last.
        self._published = {}
        self._subscribers.append(listener)
        return lambda: self._subscribers.remove(listener)

    def changed(self) -> None:
        """Take note that something in the document may have changed."""
        if self._timer is None and self._subscribers:
            self._timer = self._loop.call_later(COALESCE, self._publish)
        elif self._timer is not None and self._timer.when() > self._loop.time() + COALESCE:
            # It waits to tell of activity alone; this may be more.
            self._timer.cancel()
            self._timer = self._loop.call_later(COALESCE, self._publish)

    def end(self) -> None:
        """Publish the last state: the kernel is gone for good."""
        self._end.set()
        if self._timer is not None:
            self._timer.cancel()
        self._tell()

    async def wait_for_end(self) -> None:
        """Return when the kernel is gone for good."""
        await self._end.wait()

    def _publish(self) -> None:
        self._timer = None
        document = self.document()
        if document == self._published:
            return
        last_activity = self._published.get("last_activity")
        is_activity_alone = {**document, "last_activity": last_activity} == self._published
        wait = self._published_at + ACTIVITY_INTERVAL - self._loop.time()
        if is_activity_alone and wait > COALESCE:
            self._timer = self._loop.call_later(wait, self._publish)
            return
        self._published = document
        self._published_at = self._loop.time()
        self._tell()

    def _tell(self) -> None:
        for subscriber in list(self._subscribers):
            subscriber()
