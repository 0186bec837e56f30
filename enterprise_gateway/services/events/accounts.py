"""Sums what users have used, from the JSON lines of events. Pure."""

import json
from dataclasses import dataclass, field

from enterprise_gateway.services.events.events import (
    Claimed,
    Culled,
    Dead,
    Ended,
    KernelEvent,
    Usage,
    decode_event,
)

HOUR_SECONDS = 3600.0


@dataclass(slots=True)
class Account:
    """What the workloads of one user have used."""

    owner: str
    workloads: int = 0
    kernel_hours: float = 0.0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    memory_peak_bytes: int = 0
    """Of the one that had the most."""


@dataclass(slots=True)
class _Workload:
    """What is known of one workload. Later events tell more of it, others the same again."""

    owner: str = ""
    ended: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpus: int = 0
    memory_peak_bytes: int = 0
    waited: float = 0.0

    def add(self, usage: Usage) -> None:
        self.seconds = max(self.seconds, usage.seconds)
        self.cpu_seconds = max(self.cpu_seconds, usage.cpu_seconds or 0.0)
        self.gpus = max(self.gpus, usage.gpus)
        self.memory_peak_bytes = max(self.memory_peak_bytes, usage.memory_peak_bytes or 0)


@dataclass(slots=True)
class Accounts:
    """Adds up events, in any order and from any number of replicas."""

    faulty: int = 0
    """How many lines were no events."""
    _workloads: dict[tuple[str, str], _Workload] = field(default_factory=dict)

    def add_line(self, line: bytes) -> None:
        """Add a line: an event, or a line of a JSON log, of which others are passed over."""
        if not line.strip():
            return
        try:
            event = _read(line)
        except (ValueError, RecursionError):
            self.faulty += 1
            return
        if event is not None:
            self.add(event)

    def add(self, event: KernelEvent) -> None:
        """Add an event."""
        if not isinstance(event, Claimed | Dead | Culled | Ended):
            return
        workload = self._workloads.setdefault((event.kernel_id, event.launch), _Workload())
        if isinstance(event, Claimed):
            workload.waited = event.waited
            return
        workload.owner = event.owner
        workload.ended = max(workload.ended, event.time)
        workload.add(event.usage)

    def by_owner(self, since: str = "", until: str = "~") -> list[Account]:
        """Return the accounts of all users, by their names.

        Args:
            since: count workloads that ended then or later, by a prefix of a time such as 2026-11.
            until: count workloads that ended before.
        """
        accounts: dict[str, Account] = {}
        for workload in self._workloads.values():
            if not workload.ended or not since <= workload.ended < until:
                continue
            account = accounts.setdefault(workload.owner, Account(workload.owner))
            hours = max(0.0, workload.seconds - workload.waited) / HOUR_SECONDS
            account.workloads += 1
            account.kernel_hours += hours
            account.cpu_hours += workload.cpu_seconds / HOUR_SECONDS
            account.gpu_hours += workload.gpus * hours
            account.memory_peak_bytes = max(account.memory_peak_bytes, workload.memory_peak_bytes)
        return sorted(accounts.values(), key=lambda account: account.owner)


def _read(line: bytes) -> KernelEvent | None:
    """Return the event in a line; None if it is another line of a JSON log."""
    document = json.loads(line)
    if isinstance(document, dict) and "logger" in document:
        event = document.get("event")
        return decode_event(json.dumps(event).encode()) if isinstance(event, dict) else None
    return decode_event(line)
