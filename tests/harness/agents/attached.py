"""A kernel as a launcher of Enterprise Gateway leaves it, in a process of its own."""

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
from contextlib import suppress
from typing import Any, Self

from kernel_agent.launch.connection_file import PortReservation, write_connection_file
from kernel_agent.launch.connection_info import LOOPBACK, ConnectionInfo


class AttachedKernel:
    """ipykernel, with a comm port that the test itself listens at.

    Attributes:
        requests: what came to the comm port.
        process: the kernel's.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.process: asyncio.subprocess.Process | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="attached-")
        self._ports = PortReservation((0, 0))
        self._info = ConnectionInfo(self._ports.ports, secrets.token_hex(16))
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Start the kernel; it may not listen yet."""
        path = f"{self._folder.name}/kernel.json"
        write_connection_file(path, self._info)
        self._server = await asyncio.start_server(self._take, LOOPBACK, 0)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "ipykernel_launcher", "-f", path),
            env={
                **os.environ,
                "IPYTHONDIR": self._folder.name,
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # whose warning may be output of a cell
            },
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the kernel."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        if self._server is not None:
            self._server.close()
        self._ports.release()
        self._folder.cleanup()

    @property
    def attachment(self) -> str:
        """`EG_AGENT_ATTACH`."""
        assert self._server is not None
        comm_port = self._server.sockets[0].getsockname()[1]
        return json.dumps({**self._info.document(), "comm_port": comm_port})

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Act on one request, as launchers do."""
        request = json.loads(await reader.read())
        self.requests.append(request)
        if "signum" in request and self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.Signals(request["signum"]))
        writer.close()
