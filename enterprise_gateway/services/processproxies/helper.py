"""A helper process: a Python program beside the gateway, at the other end of a socket pair."""

import asyncio
import socket
import sys
from collections.abc import Mapping
from typing import Protocol


class HelperProcess:
    """A running helper. It ends by itself when `socket` is closed, as when the gateway dies."""

    def __init__(self, process: asyncio.subprocess.Process, end: socket.socket) -> None:
        self._process = process
        self.socket = end

    @classmethod
    async def start(
        cls,
        module: str,
        kind: socket.SocketKind,
        *options: str,
        env: Mapping[str, str] | None = None,
    ) -> "HelperProcess":
        """Start a module as a program, with its end of the pair as its only argument.

        Args:
            module: its name.
            kind: of the sockets.
            options: of the interpreter.
            env: None for the gateway's own.

        Raises:
            OSError: no process can be started on this machine now.
        """
        ours, theirs = socket.socketpair(type=kind)
        try:
            with theirs:
                # -P: modules must not be imported from the gateway's working directory.
                command = [sys.executable, "-P", *options, "-m", module, str(theirs.fileno())]
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    env=env,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    def kill(self) -> None:
        """Kill it; harmless if it has ended."""
        if self._process.returncode is None:
            self._process.kill()

    async def wait(self, seconds: float) -> None:
        """Wait until it has ended, and kill it if that takes longer."""
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()


class Helper(Protocol):
    """The gateway's client of a helper process."""

    @property
    def is_over(self) -> bool:
        """Whether the process has ended."""


def is_over(helper: asyncio.Task[Helper]) -> bool:
    """Return whether a helper could not be started, or has ended."""
    if not helper.done():
        return False
    return helper.cancelled() or helper.exception() is not None or helper.result().is_over
