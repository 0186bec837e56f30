"""The connection file: five loopback ports and a key for one kernel process.

https://jupyter-client.readthedocs.io/en/stable/kernels.html#connection-files
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple, Union

LOOPBACK = "127.0.0.1"
PORT_NAMES = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


class ConnectionInfo(NamedTuple):
    """How to reach a kernel process, and the key that signs its messages."""

    ports: Dict[str, int]
    key: str
    ip: str = LOOPBACK
    digest: str = "sha256"
    """Hash function of the signatures, which are HMACs."""

    def document(self) -> Dict[str, Union[str, int]]:
        """Return the content of the connection file."""
        return {
            "transport": "tcp",
            "ip": self.ip,
            "key": self.key,
            "signature_scheme": f"hmac-{self.digest}",
            **self.ports,
        }


class PortsExhaustedError(OSError):
    """The port range has no five free ports."""


class PortReservation:
    """Holds five ports so that nobody else gets them while the kernel uses them.

    Each is bound alone, which makes it exclusive, and then allows reuse: Linux lets a kernel that
    sets SO_REUSEADDR, as ZeroMQ does, bind and listen beside a socket that is bound but not
    listening, and gives the port to nobody who asks for any free one.
    """

    def __init__(self, port_range: Tuple[int, int]) -> None:
        """Reserve five ports of the inclusive range; (0, 0) means any.

        Raises:
            PortsExhaustedError: there are none.
        """
        self._sockets: List[socket.socket] = []
        low, high = port_range
        candidates = [0] * len(PORT_NAMES) if high == 0 else _rotated(low, high)
        for port in candidates:
            if len(self._sockets) == len(PORT_NAMES):
                break
            self._try(port)
        if len(self._sockets) < len(PORT_NAMES):
            self.release()
            raise PortsExhaustedError(f"no {len(PORT_NAMES)} free ports in {low}..{high}")
        numbers = [sock.getsockname()[1] for sock in self._sockets]
        self.ports = {name: numbers[index] for index, name in enumerate(PORT_NAMES)}

    def release(self) -> None:
        """Give the ports back."""
        for sock in self._sockets:
            sock.close()
        self._sockets = []

    def _try(self, port: int) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            sock.close()
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sockets.append(sock)


class PrivateFolder:
    """A new folder for the connection file that only its owner may enter, removed at the end.

    `tempfile` would do it too, for the memory and time of importing shutil and the compressors.
    """

    def __init__(self, parent: str) -> None:
        self._path = f"{parent}/kernel-agent-{os.urandom(8).hex()}"

    def __enter__(self) -> str:
        """Make the folder and return its path."""
        Path(self._path).mkdir(mode=0o700)
        return self._path

    def __exit__(self, *_: object) -> None:
        """Remove the folder and whatever the kernel, which knows of it, put there."""
        import shutil  # noqa: PLC0415  # see above

        shutil.rmtree(self._path, ignore_errors=True)


def write_connection_file(path: str, info: ConnectionInfo) -> None:
    """Write the file, readable by its owner only, replacing an earlier one."""
    remove_connection_file(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(info.document(), file, indent=2)


def remove_connection_file(path: str) -> None:
    """Remove the file if it is there."""
    with suppress(FileNotFoundError):
        Path(path).unlink()


def _rotated(low: int, high: int) -> List[int]:
    """Return the ports of an inclusive range, beginning somewhere in it."""
    ports = list(range(low, high + 1))
    start = int.from_bytes(os.urandom(4), "big") % len(ports)
    return ports[start:] + ports[:start]
