"""The state document, its stream of changes, and the annotations in it."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, List, Optional

from kernel_agent.message import encode_json
from kernel_agent.notices import timestamp
from kernel_agent.sessions import Sessions
from kernel_agent.settings import AgentSettings
from kernel_agent.supervisor import KernelSupervisor

VERSION = 1
COALESCE = 0.05
"""Seconds; changes within are one line."""
ACTIVITY_INTERVAL = 1.0
"""Seconds; a change of `last_activity` alone is reported at most so often."""


class Annotations:
    """A small JSON document with compare-and-set."""

    def __init__(self) -> None:
        self.revision = 0
        self.document: Dict[str, Any] = {}

    def replace(self, expected_revision: int, document: Dict[str, Any]) -> bool:
        """Put a new document in place of the one with this revision; False if it is not the current one."""
        if expected_revision != self.revision:
            return False
        self.revision += 1
        self.document = document
        return True

    def describe(self) -> Dict[str, Any]:
        """Return what the interface shows."""
        return {"revision": self.revision, "document": self.document}


class State:
    """Composes the state document and tells subscribers when it changes."""

    def __init__(self, settings: AgentSettings, sessions: Sessions) -> None:
        self._settings = settings
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()
        self._started = timestamp()
        self._last_published: Dict[str, Any] = {}
        self._last_time = 0.0
        self._timer: Optional[asyncio.TimerHandle] = None
        self._subscribers: List[Callable[[], None]] = []
        self.supervisor: Optional[KernelSupervisor] = None
        """Set by the composition, before anything is published."""
        self.annotations = Annotations()
        self.is_ended = False

    def document(self) -> Dict[str, Any]:
        """Return the state document as it is now."""
        supervisor = self.supervisor
        if supervisor is None:
            raise RuntimeError("the state has no kernel yet")
        reason = supervisor.lifecycle.reason
        return {
            "version": VERSION,
            "kernel_id": self._settings.kernel_id,
            "kernel_name": self._settings.kernel_name,
            "username": self._settings.username,
            "language": self._settings.language,
            "execution_state": "dead" if self.is_ended else supervisor.execution_state.value,
            "last_activity": supervisor.last_activity,
            "started": self._started,
            "connections": self._sessions.connections,
            "restarts": supervisor.lifecycle.restarts,
            "reason": reason._asdict() if reason is not None else None,
            "annotations": self.annotations.describe(),
        }

    def line(self) -> bytes:
        """Return the document as one line of JSON."""
        return encode_json(self.document()) + b"\n"

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after changes; the function returned ends that."""
        self._subscribers.append(listener)
        return lambda: self._subscribers.remove(listener)

    def changed(self) -> None:
        """Take note that something in the document may have changed."""
        if self._timer is None and self._subscribers:
            self._timer = self._loop.call_later(COALESCE, self._publish)

    def end(self) -> None:
        """Publish the last state."""
        self.is_ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._tell()

    def _publish(self) -> None:
        self._timer = None
        document = self.document()
        if document == self._last_published:
            return
        is_activity_only = {**document, "last_activity": ""} == {
            **self._last_published,
            "last_activity": "",
        }
        wait = self._last_time + ACTIVITY_INTERVAL - self._loop.time()
        if is_activity_only and wait > 0:
            self._timer = self._loop.call_later(wait, self._publish)
            return
        self._last_published = document
        self._last_time = self._loop.time()
        self._tell()

    def _tell(self) -> None:
        for subscriber in list(self._subscribers):
            subscriber()
