"""What a client of a load saw, over all its connections, and the figures drawn from it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.clients.channels import Execution, join_streams
from jupyter_wire.messages import Message


@dataclass
class Connection:
    """One WebSocket from its opening to its end. Times are seconds of the monotonic clock."""

    url: str
    opened: float
    messages: list[Message] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each of `messages` arrived."""
    cut: float | None = None
    """When the client saw that the connection had gone."""


@dataclass(frozen=True)
class Outage:
    """What a client noticed of one cut. Durations in seconds."""

    reconnect: float
    """From the cut to the next open WebSocket."""
    silence: float
    """From the cut to the first message that was not known."""
    repeated: int
    """Messages that came once more."""
    known: int
    """How many messages had come before the cut."""


class Record:
    """Everything that arrived in one client session."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []

    @property
    def messages(self) -> list[Message]:
        """All messages without repeats; checks that they are in the order of the kernel."""
        joined: list[Message] = []
        for connection in self.connections:
            joined = join_streams(joined, connection.messages)
        return joined

    def execution(self, request_id: str) -> Execution:
        """Return all that belongs to one request, whose end must have come."""
        found = Execution(request_id)
        for message in self.messages:
            found.add(message)
        assert found.is_complete
        return found

    def outages(self) -> list[Outage]:
        """Return one entry for each cut after which a message came.

        The state with which each connection begins does not count.
        """
        found = []
        known: set[str] = set()
        cut: float | None = None
        opened = 0.0
        repeated = 0
        for connection in self.connections:
            opened = opened or connection.opened
            for message, time in list(zip(connection.messages, connection.times, strict=True))[1:]:
                if cut is not None and message.id in known:
                    repeated += 1
                elif cut is not None:
                    found.append(Outage(opened - cut, time - cut, repeated, len(known)))
                    cut, repeated = None, 0
                known.add(message.id)
            if cut is None:
                cut, opened = connection.cut, 0.0
        return found


@dataclass(frozen=True)
class Figures:
    """What a load went through."""

    clients: int
    messages: int
    lost: int
    outages: tuple[Outage, ...]

    def __str__(self) -> str:
        """Return one line for a report."""
        line = f"{self.clients} clients, {self.messages} messages, {self.lost} lost"
        if not self.outages:
            return f"{line}, no connection cut"
        repeated = [outage.repeated for outage in self.outages]
        reconnect = [outage.reconnect for outage in self.outages]
        silence = [outage.silence for outage in self.outages]
        return (
            f"{line}, {len(self.outages)} cuts, {sum(repeated)} repeated (at most {max(repeated)} a"
            f" cut); reconnected after {spread(reconnect)}, next message after {spread(silence)}"
        )


def spread(seconds: Sequence[float]) -> str:
    """Return median and maximum in words."""
    return f"{statistics.median(seconds):.2f} s (at most {max(seconds):.2f} s)"
