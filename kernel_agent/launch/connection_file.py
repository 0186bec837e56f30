"""The connection file, and the ports and the folder that it needs.

https://jupyter-client.readthedocs.io/en/stable/kernels.html#connection-files
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from typing import List, Sequence, Tuple

from kernel_agent.launch.connection_info import LOOPBACK, PORT_NAMES, ConnectionInfo


class PortsExhaustedError(OSError):
    """The port range has no five free ports."""


class NoFolderError(OSError):
    """None of the candidate folders is writable."""

    def __init__(self, folders: Sequence[str]) -> None:
        super().__init__(
            f"none of the folders {', '.join(folders)} is writable for user {os.getuid()}: "
            "give the container one, for instance a tmpfs at /tmp"
        )


class PortReservation:
    """Reserves five ports, so that no other process gets them while the kernel uses them.

    Each is bound without SO_REUSEADDR, which makes it exclusive, and then sets it: Linux lets a
    kernel that sets it, as ZeroMQ does, bind and listen beside a socket that is bound but not
    listening, and does not assign the port to a process that binds to port 0.
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
        """Release the ports."""
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

    `tempfile` is not used, since it imports shutil and the compressors.
    """

    def __init__(self, parents: Sequence[str]) -> None:
        self._parents = parents
        self._name = f"kernel-agent-{os.urandom(8).hex()}"
        self._path = ""

    def __enter__(self) -> str:
        """Make the folder in the first parent that is writable, and return its path.

        Raises:
            NoFolderError: there is none.
        """
        for parent in self._parents:
            path = f"{parent}/{self._name}"
            with suppress(OSError):
                os.mkdir(path, mode=0o700)
                self._path = path
                return path
        raise NoFolderError(self._parents)

    def __exit__(self, *_: object) -> None:
        """Remove the folder with all files that the kernel put there."""
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
        os.unlink(path)


def _rotated(low: int, high: int) -> List[int]:
    """Return the ports of an inclusive range, starting at a random one."""
    ports = list(range(low, high + 1))
    start = int.from_bytes(os.urandom(4), "big") % len(ports)
    return ports[start:] + ports[:start]
