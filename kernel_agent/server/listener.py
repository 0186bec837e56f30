"""The listening socket that `EG_AGENT_LISTEN` names."""

from __future__ import annotations

import base64
import binascii
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from ssl import SSLContext

OWNER_ONLY = 0o177
_TCP_OPTIONS = {
    socket.TCP_NODELAY: 1,
    socket.TCP_KEEPIDLE: 30,
    socket.TCP_KEEPINTVL: 30,
    socket.TCP_KEEPCNT: 29,
}
"""Options of connections (tcp(7)): a connection whose peer's machine is gone ends after 15 minutes
of silence, 30 s and 29 probes of 30 s each, and heals after any shorter cut of the network.

While data is under way, TCP's retransmissions end it, after 15 minutes as well (`tcp_retries2`).
`TCP_USER_TIMEOUT` is not set: with it Linux also ends a connection whose peer is alive but does not
read, and a client may pause in the middle of its output."""


class CertificateError(ValueError):
    """`EG_AGENT_CERTIFICATE` cannot be used."""


class Listener:
    """A bound socket; for a unix socket also the file, removed at the end.

    Attributes:
        context: of TLS; None: connections are plain.
    """

    def __init__(self, listen: str) -> None:
        """Bind to `tcp:HOST:PORT` or `unix:PATH`.

        Raises:
            OSError: the address is in use or not available.
            ValueError: it is malformed.
        """
        kind, _, rest = listen.partition(":")
        self._path = rest if kind == "unix" else ""
        self.context: "Optional[SSLContext]" = None
        if kind == "unix":
            self.sock = _bind_unix(rest)
        elif kind == "tcp":
            host, _, port = rest.rpartition(":")
            host = host.strip("[]")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.sock = socket.socket(family, socket.SOCK_STREAM)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # Accepted connections inherit these options on Linux.
            for option, value in _TCP_OPTIONS.items():
                self.sock.setsockopt(socket.IPPROTO_TCP, option, value)
            self.sock.bind((host, int(port)))
        else:
            raise ValueError("EG_AGENT_LISTEN is neither tcp:HOST:PORT nor unix:PATH")
        self.sock.listen(128)
        self.sock.setblocking(False)  # noqa: FBT003  # its only parameter

    def encrypt(self, certificate: str, folder: str) -> None:
        """Have connections speak TLS.

        Args:
            certificate: `EG_AGENT_CERTIFICATE` of the wire contract.
            folder: a private one, in which it is for a moment: ssl loads files only.

        Raises:
            CertificateError: it is malformed.
        """
        import ssl  # noqa: PLC0415  # few agents need it

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        path = f"{folder}/certificate.pem"
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(base64.b64decode(certificate))
            context.load_cert_chain(path)
        except (ssl.SSLError, binascii.Error) as exc:
            raise CertificateError("EG_AGENT_CERTIFICATE is malformed") from exc
        finally:
            os.unlink(path)
        self.context = context

    def address(self) -> str:
        """Return the address, with the port that was assigned."""
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
