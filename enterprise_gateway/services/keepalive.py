"""TCP connections whose peer may lose its power.

There is no deadline for unacknowledged data (`TCP_USER_TIMEOUT`): Linux counts a peer that is there
but does not read as dead, too, and a client may take a break in the middle of its output.
"""

import asyncio
import socket

IDLE_SECONDS = 15
INTERVAL_SECONDS = 5
PROBES = 3
"""Together: a peer that does not answer is given up after 30 s of silence."""


def keep_alive(sock: socket.socket) -> None:
    """Have a connection end soon after its peer's machine did."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)


def keep_transport_alive(transport: asyncio.BaseTransport) -> None:
    """Do the same for the connection of a transport."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        keep_alive(sock)
