"""A unix socket that passes bytes on to another, until it is told not to."""

import asyncio
import contextlib
from pathlib import Path


class Relay:
    """Stands between a client and an engine that has to fail."""

    def __init__(self, path: Path, target: str) -> None:
        self.requests = b""
        """All that clients have sent."""
        self._path = path
        self._target = target
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def host(self) -> str:
        """The relay as DOCKER_HOST."""
        return f"unix://{self._path}"

    async def open(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_unix_server(self._pass_on, self._path)

    async def close(self) -> None:
        """Cut all connections, and take no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def freeze(self) -> None:
        """Keep connections, but pass nothing on."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on again."""
        self._flowing.set()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        writers = [writer]
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._flowing.wait()
            engine_reader, engine_writer = await asyncio.open_unix_connection(self._target)
            writers.append(engine_writer)
            await asyncio.gather(
                self._copy(reader, engine_writer, is_kept=True),
                self._copy(engine_reader, writer, is_kept=False),
            )
        for each in writers:
            each.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_kept: bool
    ) -> None:
        while data := await reader.read(65536):
            if is_kept:
                self.requests += data
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
