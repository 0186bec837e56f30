"""TCP keep-alive for connections whose peer may lose its power.

There is no deadline for unacknowledged data (`TCP_USER_TIMEOUT`): Linux would also take a peer for
dead that is there but does not read, and a client may pause in the middle of its output.
"""

import asyncio
import socket
from typing import NamedTuple


class Patience(NamedTuple):
    """When a silent connection ends: after `idle + interval * probes` seconds."""

    idle: int
    interval: int
    probes: int


PROMPT = Patience(15, 5, 3)
"""Half a minute. For connections that are cheap to make again, to an engine or for a request."""
LASTING = Patience(30, 30, 29)
"""15 minutes, the same as at the agent (docs/agent-interface.md), and as long as TCP itself
retransmits by default (`tcp_retries2`). For WebSockets: a client that only listens cannot tell that
its peer has given up on a connection while the network was cut, and would wait for ever."""


def keep_alive(sock: socket.socket, patience: Patience = PROMPT) -> None:
    """Make a connection end some time after its peer's machine fails."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, patience.idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, patience.interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, patience.probes)


def keep_transport_alive(transport: asyncio.BaseTransport, patience: Patience = PROMPT) -> None:
    """Make the connection of a transport end some time after its peer's machine fails."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        keep_alive(sock, patience)
