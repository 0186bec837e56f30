"""The comm port of Enterprise Gateway's launchers: a JSON object a connection, no answer.

`{"signum": n}` signals the kernel, wherever and under whatever name it runs; `{"shutdown": 1}` ends
the launcher's listener, without which the launcher does not end. The listener takes one connection
at a time, reads it to its end and closes it, which is the only sign that it took the request.
"""

from __future__ import annotations

import asyncio
import json
import logging

CONNECT_TIMEOUT = 1.0
CONNECT_TRIES = 3
TAKE_TIMEOUT = 2.0
"""Seconds from the request to the end of the connection."""

logger = logging.getLogger(__name__)


class CommPort:
    """A client of one launcher. Requests are delivered one after the other, in order."""

    def __init__(self, ip: str, port: int) -> None:
        self._ip = ip
        self._port = port
        self._turn = asyncio.Lock()

    async def send(self, **request: int) -> bool:
        """Deliver a request; return whether the listener took it.

        It is written at most once, so a listener that is merely slow acts on it once.
        """
        async with self._turn:
            try:
                reader, writer = await self._open()
            except (OSError, asyncio.TimeoutError) as exc:
                logger.warning(
                    "the comm port cannot be reached: %s", str(exc) or type(exc).__name__
                )
                return False
            try:
                writer.write(json.dumps(request).encode())
                writer.write_eof()
                await asyncio.wait_for(reader.read(1), TAKE_TIMEOUT)
            except (OSError, asyncio.TimeoutError) as exc:
                logger.warning("the comm port took no request: %s", str(exc) or type(exc).__name__)
                return False
            finally:
                writer.close()
            return True

    async def _open(self) -> "tuple[asyncio.StreamReader, asyncio.StreamWriter]":
        """Connect. A full backlog drops what comes, and TCP alone would wait too long with it."""
        for _ in range(CONNECT_TRIES - 1):
            try:
                return await self._open_once()
            except asyncio.TimeoutError:
                continue
        return await self._open_once()

    async def _open_once(self) -> "tuple[asyncio.StreamReader, asyncio.StreamWriter]":
        opening = asyncio.open_connection(self._ip, self._port)
        return await asyncio.wait_for(opening, CONNECT_TIMEOUT)
