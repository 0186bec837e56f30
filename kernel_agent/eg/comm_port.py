"""The comm port of Enterprise Gateway's launchers: one JSON object per connection, no answer.

`{"signum": n}` signals the kernel, wherever it runs and as any user; `{"shutdown": 1}` ends the
launcher's listener, without which the launcher does not end. The listener takes one connection at a
time, reads it to its end and closes it, which is the only sign that it received the request.
"""

from __future__ import annotations

import asyncio
import json
import logging

CONNECT_TIMEOUT_SECONDS = 1.0
CONNECT_TRIES = 3
ACCEPT_TIMEOUT_SECONDS = 2.0
"""How long the listener may take to close the connection after the request."""

_log = logging.getLogger(__name__)


class CommPort:
    """A client of one launcher. Delivers requests one after the other, in order."""

    def __init__(self, ip: str, port: int) -> None:
        self._ip = ip
        self._port = port
        self._turn = asyncio.Lock()

    async def send(self, **request: int) -> bool:
        """Deliver a request; return whether the listener received it.

        It is written at most once, so that a slow listener acts on it only once.
        """
        async with self._turn:
            try:
                reader, writer = await self._open()
            except (OSError, asyncio.TimeoutError) as exc:
                _log.warning(
                    "cannot connect to the launcher's comm port: %s", str(exc) or type(exc).__name__
                )
                return False
            try:
                writer.write(json.dumps(request).encode())
                writer.write_eof()
                await asyncio.wait_for(reader.read(1), ACCEPT_TIMEOUT_SECONDS)
            except (OSError, asyncio.TimeoutError) as exc:
                _log.warning(
                    "the launcher's comm port did not take a request: %s",
                    str(exc) or type(exc).__name__,
                )
                return False
            finally:
                writer.close()
            return True

    async def _open(self) -> "tuple[asyncio.StreamReader, asyncio.StreamWriter]":
        """Connect, with retries: a full backlog drops SYN packets, and TCP retries too slowly."""
        for _ in range(CONNECT_TRIES - 1):
            try:
                return await self._open_once()
            except asyncio.TimeoutError:
                continue
        return await self._open_once()

    async def _open_once(self) -> "tuple[asyncio.StreamReader, asyncio.StreamWriter]":
        opening = asyncio.open_connection(self._ip, self._port)
        return await asyncio.wait_for(opening, CONNECT_TIMEOUT_SECONDS)
