"""The listening socket that `EG_AGENT_LISTEN` names."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

OWNER_ONLY = 0o177
_TCP_OPTIONS = {
    socket.TCP_NODELAY: 1,
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 4,
}
"""For connections (tcp(7)): a peer whose machine is gone is noticed after 30 s of silence, 10 s and
4 probes of 5 s each.

While something is under way TCP's retransmissions notice it, or the pongs that a WebSocket misses.
There is no `TCP_USER_TIMEOUT`: Linux counts a peer that is there but does not read as dead, too,
and a client may take a break in the middle of its output."""


class Listener:
    """A bound socket; for a unix socket also the file, removed at the end."""

    def __init__(self, listen: str) -> None:
        """Bind to `tcp:HOST:PORT` or `unix:PATH`.

        Raises:
            OSError: the address is taken or not to be had.
            ValueError: it is malformed.
        """
        kind, _, rest = listen.partition(":")
        self._path = rest if kind == "unix" else ""
        if kind == "unix":
            self.sock = _bind_unix(rest)
        elif kind == "tcp":
            host, _, port = rest.rpartition(":")
            host = host.strip("[]")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.sock = socket.socket(family, socket.SOCK_STREAM)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # Linux hands these on to the connections that are accepted.
            for option, value in _TCP_OPTIONS.items():
                self.sock.setsockopt(socket.IPPROTO_TCP, option, value)
            self.sock.bind((host, int(port)))
        else:
            raise ValueError("EG_AGENT_LISTEN is neither tcp:HOST:PORT nor unix:PATH")
        self.sock.listen(128)
        self.sock.setblocking(False)  # noqa: FBT003  # its only parameter

    def address(self) -> str:
        """Return where it listens, with the port that was assigned."""
        if self._path:
            return f"unix:{self._path}"
        host, port = self.sock.getsockname()[:2]
        return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"

    def close(self) -> None:
        """Close the socket and remove its file."""
        self.sock.close()
        if self._path:
            with suppress(FileNotFoundError):
                os.unlink(self._path)


def _bind_unix(path: str) -> socket.socket:
    """Bind a unix socket that only its owner may use; a stale file of the same name is replaced."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(OWNER_ONLY)
    try:
        sock.bind(path)
    finally:
        os.umask(previous)
    return sock
